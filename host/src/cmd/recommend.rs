//! `vq-host recommend`: the answer that a store has.

use super::results::{known, store_of_default_sweep, told_damage};
use super::{say, style};
use crate::cli;
use miette::{IntoDiagnostic, miette};
use std::collections::BTreeSet;
use std::io::Write;
use std::process::ExitCode;
use vq_host::output;
use vq_host::record::Filter;
use vq_host::report::recommend::{
    Question, recommend as answer, write_recommendation, write_reproduction,
};
use vq_host::report::results::Format;
use vq_host::store::Store;

pub(super) fn recommend(args: &cli::RecommendArgs) -> miette::Result<ExitCode> {
    let store = match &args.store {
        Some(store) => store.clone(),
        None => store_of_default_sweep()?,
    };
    if args.format == Format::Csv {
        return Err(miette!("recommend has no CSV form; use --format table or json"));
    }
    if !store.exists() {
        return Err(miette!(
            help = "`vq-host run` makes it",
            "there is no store at {}",
            store.display()
        ));
    }
    let reader = Store::open_read_only(&store).into_diagnostic()?;
    let mut contents = reader.contents(&Filter::default()).into_diagnostic()?;
    let families: BTreeSet<_> =
        contents.records.iter().map(|record| record.dataset.family().to_owned()).collect();
    let families: Vec<String> = families.into_iter().collect();
    known("data set", &args.dataset, &families, &store)?;
    let wanted = |name: &str| args.dataset.is_empty() || args.dataset.iter().any(|of| of == name);
    contents.records.retain(|record| wanted(record.dataset.family()));
    let question = Question {
        recall: args.recall,
        k: args.k,
        rerank: args.rerank,
        max_bits: args.max_bits,
        min_encode: args.min_encode,
        rows: args.rows,
    };
    let recommendation = answer(&contents.records, &question);
    let mut out = say::out();
    match args.format {
        Format::Json => {
            output::write(&output::recommendation(&recommendation), &mut out).into_diagnostic()?;
        }
        _ => {
            write_recommendation(&recommendation, style(), &mut out).into_diagnostic()?;
            write_reproduction(&recommendation, style(), &mut out).into_diagnostic()?;
        }
    }
    out.flush().into_diagnostic()?;
    told_damage(&reader, contents.damage, &store)
}
