//! `vq-host recommend`: the answer that a store has.

use super::{cache_dir, name_picks, plugins_at_hand, say, stored, style};
use crate::cli;
use miette::{IntoDiagnostic, miette};
use std::io::Write;
use std::process::ExitCode;
use vq_host::output;
use vq_host::report::recommend::{Answering, Question, write_recommendation, write_reproduction};
use vq_host::report::results::Format;

pub(super) fn recommend(args: &cli::RecommendArgs) -> miette::Result<ExitCode> {
    if args.format == Format::Csv {
        return Err(miette!("recommend has no CSV form; use --format table or json"));
    }
    let mut families = stored::families(args.store.as_deref(), &args.dataset)?;
    let question = Question {
        recall: args.recall,
        k: args.k,
        rerank: args.rerank,
        max_bits: args.max_bits,
        min_encode: args.min_encode,
        rows: args.rows,
    };
    let mut answering = Answering::new(question.clone());
    families.read(|record| question.trim(record), |records| answering.add(records))?;
    let mut recommendation = answering.end();
    // A store needs no plugins to be read; where they are at hand, they know other names of a code.
    let at_hand = cache_dir(args.cache_dir.as_ref())
        .and_then(|cache| plugins_at_hand(&args.places, &cache, false));
    if let Ok(catalog) = at_hand {
        name_picks(&mut recommendation, &catalog);
    }
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
    families.end()
}
