//! `vq-host plot`: pictures of a store.

use super::{say, stored, style};
use crate::cli::{self, PictureFormat};
use miette::{IntoDiagnostic, miette};
use std::io::Write;
use std::process::ExitCode;
use vq_host::report::plot::{PlotError, PlotInput, PlotRequest, pictures};
use vq_host::suggest;

/// Rows of a picture where nobody says how many there are.
const ROWS: usize = 24;

pub(super) fn plot(args: &cli::PlotArgs) -> miette::Result<ExitCode> {
    let selected = stored::select(&args.stored, &[])?;
    let (_, methods) = selected.reader.names().into_diagnostic()?;
    let spectra = selected.reader.spectra().into_diagnostic()?;
    let store = selected.reader.path().file_name().unwrap_or_default().to_string_lossy();
    let input = PlotInput {
        store: &store,
        records: &selected.records,
        methods: &methods,
        spectra: &spectra,
    };
    let request =
        PlotRequest { x: args.x.clone(), y: args.y.clone(), rate: args.rate, linear: args.linear };
    let pictures = pictures(&input, &request).map_err(explained)?;
    let mut out = say::out();
    if pictures.is_empty() {
        say::note("nothing to draw: no cell that is ok has both numbers");
    }
    for (at, picture) in pictures.iter().enumerate() {
        if args.terminal {
            let style = style();
            if at > 0 {
                writeln!(out).into_diagnostic()?;
            }
            let text = picture.letters(style.width, ROWS, style.color);
            out.write_all(text.as_bytes()).into_diagnostic()?;
            continue;
        }
        for format in [PictureFormat::Svg, PictureFormat::Png] {
            if !args.format.contains(&format) {
                continue;
            }
            let (ending, bytes) = match format {
                PictureFormat::Svg => ("svg", picture.svg().into_bytes()),
                PictureFormat::Png => ("png", picture.png().into_diagnostic()?),
            };
            let path = args.output.join(format!("{}.{ending}", picture.name));
            stored::write_file(&path, &bytes)?;
            writeln!(out, "{}", path.display()).into_diagnostic()?;
        }
    }
    out.flush().into_diagnostic()?;
    selected.end()
}

/// An unknown metric with the nearest that there is.
fn explained(error: PlotError) -> miette::Report {
    let PlotError::UnknownMetric { name, known } = &error else { return miette!("{error}") };
    let near = suggest::nearest_name(name, known.iter().map(String::as_str));
    let help = near.map(|near| format!("did you mean `{near}`?"));
    miette!(
        help = help.unwrap_or_else(|| "`vq-host results --format csv` has all".to_owned()),
        "{error}"
    )
}
