//! What can be typed: a file for each verb, with its arguments and examples.

mod check;
mod compare;
mod completions;
mod data;
mod export;
mod man;
mod merge;
mod methods;
mod new;
mod number;
mod plan;
mod plot;
mod recommend;
mod report;
mod results;
mod run;
mod selection;
mod stored;
mod submit;

use clap::{Parser, Subcommand};

pub(crate) use check::CheckArgs;
pub(crate) use compare::CompareArgs;
pub(crate) use completions::CompletionsArgs;
pub(crate) use data::{CacheArgs, DataArgs, DataVerb, FetchArgs, InspectArgs, ListArgs, TruthArgs};
pub(crate) use export::ExportArgs;
pub(crate) use man::ManArgs;
pub(crate) use merge::MergeArgs;
pub(crate) use methods::MethodsArgs;
pub(crate) use new::{Language, NewArgs};
pub(crate) use plan::PlanArgs;
pub(crate) use plot::{PictureFormat, PlotArgs};
pub(crate) use recommend::RecommendArgs;
pub(crate) use report::ReportArgs;
pub(crate) use results::ResultsArgs;
pub(crate) use run::RunArgs;
pub(crate) use selection::{Places, Selection};
pub(crate) use stored::Stored;
pub(crate) use submit::{Engine, SubmitArgs};

/// A neutral referee for vector quantization: every method is a plugin, and all are measured on
/// the same data, at the same true bits per dimension, with the same metrics.
#[derive(Debug, Parser)]
#[command(name = "vq-host", version, propagate_version = true, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

const EXAMPLES: &str = "Examples:
  vq-host run sweeps.toml                  measure what is not measured yet
  vq-host plan sweeps.toml                 what would run, what not, and why
  vq-host methods                          which methods are there, from where
  vq-host results results/first-look.db    what was measured

Exit codes:
  0              all cells ok
  1              could not start or go on
  2              wrong usage
  3              some cells failed
  129, 130, 143  ended by SIGHUP, Ctrl-C, SIGTERM";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a sweep: measure what is not in its store yet, end with the best trade-offs
    #[command(after_help = run::EXAMPLES)]
    Run(RunArgs),
    /// Show what a sweep would run, what it skips and why, and what is done already
    #[command(after_help = plan::EXAMPLES)]
    Plan(PlanArgs),
    /// List methods and the plugins they come from, or show one method's parameters
    #[command(after_help = methods::EXAMPLES)]
    Methods(MethodsArgs),
    /// Hold a plugin file against the contract, as its author does before shipping
    #[command(after_help = check::EXAMPLES)]
    Check(CheckArgs),
    /// Write the project of a new method: a plugin that builds and passes as it is
    #[command(after_help = new::EXAMPLES)]
    New(NewArgs),
    /// Show what a store holds
    #[command(after_help = results::EXAMPLES)]
    Results(ResultsArgs),
    /// Show what got worse or better between two stores, or two runs
    #[command(after_help = compare::EXAMPLES)]
    Compare(CompareArgs),
    /// Draw a store: SVG and PNG files of recall, error, bias, speed and re-ranking
    #[command(after_help = plot::EXAMPLES)]
    Plot(PlotArgs),
    /// Write one HTML page that shows a store: chart, tables, failures, machines, digests
    #[command(after_help = report::EXAMPLES)]
    Report(ReportArgs),
    /// Write a store's records for other programs: Parquet, CSV, JSON Lines, Markdown
    #[command(after_help = export::EXAMPLES)]
    Export(ExportArgs),
    /// Share a sweep out among the nodes of a cluster: a job array, and a merge after it
    #[command(after_help = submit::EXAMPLES)]
    Submit(SubmitArgs),
    /// Put several stores into one: of each cell and machine the best record
    #[command(after_help = merge::EXAMPLES)]
    Merge(MergeArgs),
    /// Say which code reaches a recall with the fewest bits, what it costs and how sure that is
    #[command(after_help = recommend::EXAMPLES)]
    Recommend(RecommendArgs),
    /// Look at files of vectors, convert them, look after prepared data
    Data(DataArgs),
    /// Print what makes a shell complete verbs, options and their values
    #[command(after_help = completions::EXAMPLES)]
    Completions(CompletionsArgs),
    /// Write the manual pages, one for each verb
    Man(ManArgs),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn what_follows_the_options_fits_a_terminal_of_80_columns() {
        let mut commands = vec![Cli::command()];
        while let Some(command) = commands.pop() {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in text.lines() {
                assert!(line.chars().count() <= 78, "{}: {line}", command.get_name());
            }
            commands.extend(command.get_subcommands().cloned());
        }
    }
}
