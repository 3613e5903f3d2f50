//! Eigenvalues of data sets, stored once per digest, so that a report needs no data.
//!
//! They are not part of a record: damaged ones are removed, and the next run stores them again.

use rusqlite::{Connection, params};

use super::row::{Known, Texts};
use super::scan::{Damage, Found, is_damage};
use super::seal;

/// The eigenvalues of the covariance of a base.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spectrum {
    /// Digest of the prepared data.
    pub(super) dataset_digest: String,
    /// Descending; at least one.
    pub(super) eigenvalues: Vec<f64>,
}

/// Stores `spectrum`, unless there is one of this data.
pub(super) fn insert(
    connection: &Connection,
    known: &mut Known,
    spectrum: &Spectrum,
) -> rusqlite::Result<()> {
    put(connection, known, spectrum, "NOTHING")
}

/// Stores `spectrum`, unless there is one of this data whose bytes are greater: of two the same
/// stays, whichever comes first.
pub(super) fn insert_if_greater(
    connection: &Connection,
    known: &mut Known,
    spectrum: &Spectrum,
) -> rusqlite::Result<()> {
    let greater = "UPDATE SET eigenvalues = excluded.eigenvalues, checksum = excluded.checksum \
                   WHERE excluded.eigenvalues > stored_spectra.eigenvalues";
    put(connection, known, spectrum, greater)
}

fn put(
    connection: &Connection,
    known: &mut Known,
    spectrum: &Spectrum,
    where_there_is_one: &str,
) -> rusqlite::Result<()> {
    let Spectrum { dataset_digest, eigenvalues } = spectrum;
    let id = known.text(connection, dataset_digest)?;
    let bytes: Vec<u8> = eigenvalues.iter().flat_map(|value| value.to_le_bytes()).collect();
    let checksum = seal::of_spectrum(dataset_digest, &bytes);
    connection
        .prepare_cached(&format!(
            "INSERT INTO stored_spectra VALUES (?1, ?2, ?3) \
             ON CONFLICT (dataset_digest) DO {where_there_is_one}"
        ))?
        .execute(params![id, bytes, checksum])?;
    Ok(())
}

/// Shows `visit` every spectrum, or that it is damaged.
pub(super) fn scan<E: From<rusqlite::Error>>(
    connection: &Connection,
    texts: &Texts,
    visit: &mut impl FnMut(Found) -> Result<(), E>,
) -> Result<(), E> {
    let mut statement =
        connection.prepare("SELECT * FROM stored_spectra ORDER BY dataset_digest")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let read = || -> rusqlite::Result<Option<Spectrum>> {
            let dataset_digest = texts.text(row.get("dataset_digest")?)?.to_owned();
            let bytes: Vec<u8> = row.get("eigenvalues")?;
            let checksum: i64 = row.get("checksum")?;
            let sound = seal::of_spectrum(&dataset_digest, &bytes) == checksum;
            let (values, rest) = bytes.as_chunks();
            let eigenvalues = values.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
            let whole = sound && rest.is_empty();
            Ok(whole.then_some(Spectrum { dataset_digest, eigenvalues }))
        };
        match read() {
            Ok(Some(spectrum)) => visit(Found::Spectrum(spectrum))?,
            Err(error) if !is_damage(&error) => return Err(error.into()),
            _ => {
                let digest = row.get("dataset_digest").and_then(|id| texts.text(id));
                let digest = digest.unwrap_or("of an unknown digest");
                let damage = Damage::Spectrum { dataset_digest: digest.to_owned() };
                visit(Found::Damage(damage, row.get("dataset_digest").ok()))?;
            }
        }
    }
    Ok(())
}
