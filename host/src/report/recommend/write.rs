//! The answer for people.

use std::io::{self, Write};

use super::{Answer, Growth, Pick, Prediction, Question, Recommendation};
use crate::record::DatasetInfo;
use crate::report::marks::Marks;
use crate::report::table::{self, Column};
use crate::report::text::{columns, fit, painted, plain};
use crate::report::{Style, number, wrapped};
use crate::sweep::method_table;
use crate::transform::TRANSFORM;

/// Writes the answer for each data set, and for all of them.
///
/// # Errors
/// What `out` returns.
pub fn write_recommendation(
    of: &Recommendation,
    style: Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    let question = &of.question;
    for answer in of.datasets.iter().chain(&of.across) {
        write_answer(answer, question, style, out)?;
        writeln!(out)?;
    }
    if of.datasets.is_empty() {
        writeln!(out, "no cell went well, so there is nothing to recommend")?;
    }
    Ok(())
}

/// Writes what leads to the same numbers again: for each pick a `[[method]]` of a sweep, with the
/// keys of all records that its numbers are of.
///
/// # Errors
/// What `out` returns.
pub fn write_reproduction(
    of: &Recommendation,
    style: Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    let picks = of.datasets.iter().chain(&of.across).flat_map(Answer::picks);
    let mut written: Vec<String> = Vec::new();
    for (_, pick) in picks {
        let fragment = fragment(pick, of.transformed);
        if written.contains(&fragment) {
            continue;
        }
        if written.is_empty() {
            let how = "to measure it again, in a sweep beside its [[dataset]]; the keys are of the \
                       records that say so (vq-host results --key):";
            writeln!(out, "{}\n", wrapped(how, 0, style.columns()))?;
        }
        writeln!(out, "{fragment}")?;
        written.push(fragment);
    }
    Ok(())
}

/// A `[[method]]` that is this configuration and no other, with the keys of its records; where others
/// are `transformed`, also beside a data set that transforms.
fn fragment(pick: &Pick, transformed: bool) -> String {
    let keys = pick.seeds.iter().zip(&pick.keys);
    let mut told: String = keys.map(|(seed, key)| format!("# seed {seed}: {key}\n")).collect();
    let points = pick.growth.iter().flat_map(|growth| &growth.points);
    for point in points.filter(|point| point.keys != pick.keys) {
        let rows = point.rows;
        told.extend(point.keys.iter().map(|key| format!("# among {rows} rows: {key}\n")));
    }
    let mut params = pick.params.clone();
    if let (true, Some(params)) = (transformed, params.as_object_mut()) {
        params.entry(TRANSFORM).or_insert_with(|| serde_json::json!([]));
    }
    method_table(&pick.method, &params, &told)
}

fn write_answer(
    answer: &Answer,
    question: &Question,
    style: Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    writeln!(out, "{}", heading(answer, style))?;
    writeln!(out, "{}", wrapped(&asked(question), 2, style.columns()))?;
    let mut rows: Vec<(&str, &Pick)> = Vec::new();
    for (role, pick) in answer.picks() {
        // What is several things is told once.
        if !rows.iter().any(|(_, other)| other.keys == pick.keys) {
            rows.push((role, pick));
        }
    }
    if rows.is_empty() {
        let why = match answer.configurations {
            0 if answer.dataset.is_none() => {
                format!("no configuration has {} on all of them", question.metric())
            }
            0 => format!("no record has {}", question.metric()),
            _ => "nothing here is both proven and weighed: no code is recommended".to_owned(),
        };
        return writeln!(out, "{}", wrapped(&why, 2, style.columns()));
    }
    if answer.smallest.is_none() {
        writeln!(out, "nothing reaches it; what comes closest:")?;
    }
    write_picks(&rows, question, style, out)?;
    let mut notes = Vec::new();
    if let Some(pick) = answer.smallest.as_ref().or(answer.closest.as_ref()) {
        notes.push(costs(pick));
        notes.extend(how_sure(pick, answer, question));
        notes.extend(grown(pick, question));
    }
    notes.extend(answer.undecided.as_ref().map(|pick| not_sure(pick, question)));
    notes.extend(rows.iter().filter_map(|(_, pick)| elsewhere(pick)));
    notes.extend(Marks::legend(&rows.iter().map(|(_, pick)| pick.marks).collect::<Vec<_>>()));
    notes.extend(left_out(answer, question));
    for note in notes {
        writeln!(out, "{}", wrapped(&note, 2, style.columns()))?;
    }
    Ok(())
}

fn heading(answer: &Answer, style: Style) -> String {
    let Some(DatasetInfo { name, n, dim, queries, train_rows, .. }) = &answer.dataset else {
        return painted("all data sets, by the worst of them", style, "1");
    };
    let metric = answer.metric.as_deref().unwrap_or_default();
    let asked = if *queries == 1 { "query" } else { "queries" };
    let learned = train_rows.map(|rows| format!(", learned from {rows}")).unwrap_or_default();
    let about = format!("  {n} × {dim}, {queries} {asked}, {metric}{learned}");
    let name = fit(&plain(name), style.columns().saturating_sub(columns(&about)).max(6));
    format!("{}{about}", painted(&name, style, "1"))
}

/// The question in words.
fn asked(question: &Question) -> String {
    let Question { recall, k, rerank, max_bits, min_encode, rows } = question;
    let mut text = match rerank {
        None => format!("recall@{k} ≥ {recall} by the codes alone"),
        Some(times) => format!("recall@{k} ≥ {recall} with the best {times}·{k} ranked again"),
    };
    if let Some(most) = max_bits {
        text += &format!(", at most {most} bits/dim");
    }
    if let Some(least) = min_encode {
        text += &format!(", at least {} vectors/s encoded", number::amount(*least));
    }
    if let Some(rows) = rows {
        text += &format!(", for {} vectors", number::amount(*rows));
    }
    text
}

fn write_picks(
    rows: &[(&str, &Pick)],
    question: &Question,
    style: Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    let cells = |cell: &dyn Fn(&Pick) -> String| -> Vec<String> {
        rows.iter().map(|(_, pick)| cell(pick)).collect()
    };
    let speed =
        |pick: &Pick| pick.compress_vectors_per_s.map_or_else(|| "–".to_owned(), number::amount);
    let mut table = vec![
        Column::text("", rows.iter().map(|(role, _)| (*role).to_owned())),
        Column::text("method", cells(&|pick| pick.marks.on(&pick.method))),
        Column::text("configuration", cells(&|pick| pick.label.clone())),
        Column::number("bits/dim", cells(&|pick| format!("{:.2}", pick.rate))),
        Column::number("bytes", cells(&|pick| number::amount(pick.code_bytes))),
        Column::number(
            &format!("recall@{}", question.k),
            cells(&|pick| format!("{:.4}", pick.recall)),
        ),
        Column::number("at least", cells(&|pick| format!("{:.4}", pick.at_least))),
        Column::number("encode vec/s", cells(&speed)).spare(),
    ];
    let grown = |pick: &Pick| {
        let predicted = pick.growth.as_ref().and_then(|growth| growth.predicted);
        predicted.map_or_else(|| "–".to_owned(), |of| format!("{:.3}", of.recall))
    };
    if let Some(rows_asked) = question.rows
        && rows.iter().any(|(_, pick)| pick.growth.is_some())
    {
        let head = format!("at {}", number::amount(rows_asked));
        table.push(Column::number(&head, cells(&grown)));
    }
    table::write(&table, 3, style, out).map(drop)
}

/// What it is called in other systems.
fn elsewhere(pick: &Pick) -> Option<String> {
    let names = pick.elsewhere.iter();
    let names: Vec<String> = names.map(|(system, name)| format!("{name} ({system})")).collect();
    let Pick { method, label, .. } = pick;
    (!names.is_empty()).then(|| plain(&format!("{method} {label} elsewhere: {}", names.join("; "))))
}

/// What it costs.
fn costs(pick: &Pick) -> String {
    let Pick { rows, code_bytes, model_bytes, total_bytes, original_bytes, .. } = pick;
    let codes = bytes(rows * code_bytes);
    let model = bytes(*model_bytes);
    let all = bytes(*total_bytes);
    let mut text = format!(
        "{} vectors: {all}, of which codes {codes} and model {model}",
        number::amount(*rows)
    );
    if let Some(original) = original_bytes {
        text += &format!("; ranking again reads the originals, {} in f32", bytes(*original));
    }
    text
}

/// `5.97 GB`.
fn bytes(count: f64) -> String {
    let mut scaled = count;
    for unit in ["bytes", "kB", "MB", "GB"] {
        if scaled < 999.5 {
            let digits = if scaled < 9.995 && unit != "bytes" {
                2
            } else {
                usize::from(scaled < 99.95 && unit != "bytes")
            };
            return format!("{scaled:.digits$} {unit}");
        }
        scaled /= 1000.0;
    }
    format!("{scaled:.2} TB")
}

/// What is said of a smaller one.
fn not_sure(pick: &Pick, question: &Question) -> String {
    let Pick { method, label, rate, recall, at_least, .. } = pick;
    let text = format!(
        "undecided: {method} {label} is smaller, {rate:.2} bits/dim; its recall of {recall:.4} is surely \
         above {at_least:.4} only, not {}: more queries or seeds decide it",
        question.recall
    );
    plain(&text)
}

fn how_sure(pick: &Pick, answer: &Answer, question: &Question) -> Vec<String> {
    let queries =
        answer.dataset.as_ref().map_or(String::new(), |of| format!("{} queries and ", of.queries));
    let seeds = match pick.seeds.len() {
        1 => "1 seed (others were not tried)".to_owned(),
        n => format!("{n} seeds"),
    };
    let mut notes = vec![format!(
        "how sure: above {:.4} with 95 % confidence, by {queries}{seeds}",
        pick.at_least
    )];
    if answer.dataset.is_none() {
        notes.push(format!("numbers are those of its worst data set, {}", plain(&pick.dataset)));
    }
    if answer.smallest.is_none() {
        let mut lacks = Vec::new();
        if pick.at_least < question.recall {
            lacks.push(format!("its recall is not surely {} or more", question.recall));
        }
        if let Some(most) = question.max_bits.filter(|most| pick.rate > *most) {
            lacks.push(format!("it takes more than {most} bits/dim"));
        }
        if let Some(least) = question.min_encode
            && pick.compress_vectors_per_s.is_none_or(|speed| speed < least)
        {
            lacks.push("it encodes more slowly than asked".to_owned());
        }
        notes.push(format!("what it lacks: {}", lacks.join("; ")));
    }
    notes
}

/// What becomes of its recall as rows are added.
fn grown(pick: &Pick, question: &Question) -> Vec<String> {
    let measured = |growth: &Growth| {
        let points = growth.points.iter();
        let told: Vec<String> = points
            .map(|of| format!("{:.4} at {}", of.recall, number::amount(of.rows as f64)))
            .collect();
        told.join(", ")
    };
    let Some(growth) = &pick.growth else {
        let here = "among more rows recall falls: `sizes` in a sweep shows how fast";
        return match question.rows {
            Some(rows) if rows > 0.0 => vec![here.to_owned()],
            _ => Vec::new(),
        };
    };
    let mut notes = vec![format!("as rows are added: {}", measured(growth))];
    if let Some(Prediction { rows, recall, at_least, at_most }) = growth.predicted {
        let last = growth.points.last().map_or(rows, |of| of.rows as f64);
        if rows > last {
            let falls = match at_least < question.recall {
                true => ", the lower end below what is asked",
                false => "",
            };
            notes.push(format!(
                "at {} rows expect {recall:.3}, {at_least:.3} to {at_most:.3}{falls}: an extension \
                 to {:.0}× the rows measured, which more rows and queries narrow",
                number::amount(rows),
                rows / last
            ));
        }
    }
    notes
}

fn left_out(answer: &Answer, question: &Question) -> Vec<String> {
    let mut notes = vec![match answer.configurations {
        1 => "chosen from 1 configuration".to_owned(),
        n => format!("chosen from {n} configurations"),
    }];
    match answer.not_proven_or_weighed {
        0 => {}
        n => notes[0] += &format!(", {n} of which are unproven or unweighed and never recommended"),
    }
    match answer.without_the_metric {
        0 => {}
        n => notes[0] += &format!("; {n} more have no {}", question.metric()),
    }
    notes
}
