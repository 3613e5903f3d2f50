//! Whether a disk has room for what is about to be written: to find out after an hour is too late.

use std::io::{Error, ErrorKind, Result};
use std::path::Path;

use bytesize::ByteSize;
use nix::sys::statvfs::statvfs;

/// That `bytes` more fit on the disk of `folder`. One that does not say how much it has is believed
/// to have enough.
///
/// # Errors
/// [`ErrorKind::StorageFull`], with what is needed and what there is.
pub(super) fn has_room(folder: &Path, bytes: u64) -> Result<()> {
    let Ok(disk) = statvfs(folder) else { return Ok(()) };
    // What is free to all but the superuser.
    let free = u128::from(disk.blocks_available()) * u128::from(disk.fragment_size());
    if disk.blocks() == 0 || u128::from(bytes) <= free {
        return Ok(());
    }
    // Less than what is needed.
    let [needed, free] = [bytes, free as u64].map(ByteSize::b);
    Err(Error::new(
        ErrorKind::StorageFull,
        format!("{needed} are needed, the disk has {free} free"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_a_disk_has_is_refused_and_little_is_not() {
        let folder = tempfile::tempdir().unwrap();
        assert!(has_room(folder.path(), 1).is_ok());
        let error = has_room(folder.path(), u64::MAX).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert!(error.to_string().contains("are needed, the disk has"), "{error}");
    }
}
