//! The parent's side of a worker: has a child, or the three of a cell, do one job (`children`),
//! survives whatever the plugin does to them, and says how it ended (`cause`).

use super::cause::{advise, cause, near_limit, out_of_container};
use super::children::{Asked, Child, Event, kill_group, longest};
use super::fault::HostFault;
use super::lines::{self, Found, Log, Proposed};
use super::machine::{self, Kept};
use super::memory::Container;
use super::protocol::{Answer, CheckFinding, Engine, Evaluation, Job, Message, Role, Stage};
use super::scratch::Scratch;
use super::watch::{Watch, end_group, most_resident};
use crate::data::Prepared;
use crate::plugin::Digests;
use crate::record::{Outcome, Sandbox};
use crate::transform::Chain;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};
use vq_plugin_api::conformance::Skip;

/// How often memory, deadline and cancellation are looked at.
const TICK: Duration = Duration::from_millis(50);
/// How long a dead child's pipes may stay open (a grandchild could hold them).
const DRAIN: Duration = Duration::from_secs(2);
/// How long an engine that does not answer any more may take to end by itself.
const LAST_STEPS: Duration = Duration::from_millis(500);
/// Notices of a cell's engines that are kept: more than an honest method gives reason for.
const MOST_NOTICES: usize = 8;
/// Resident file pages of the program itself, which the memory limit does not count.
pub(crate) const PROGRAM_PAGES: u64 = 32 << 20;

/// What a child may use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Wall time.
    pub timeout: Duration,
    /// Time of its own, in which it computes or sleeps; `None`: all of it.
    pub own_time: Option<Duration>,
    /// Bytes of anonymous memory.
    pub memory: Option<u64>,
    /// Threads, told to every threading library we know of.
    pub threads: usize,
    /// Bytes of files in the scratch folder.
    pub scratch: u64,
    /// Hold the plugin to its own files, as far as the kernel can (see [`super::sandbox`]).
    pub sandbox: bool,
}

/// Highest resident memory, bytes; 0 where that is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peaks {
    /// Of the encoder.
    pub encoder: u64,
    /// Of the decoder.
    pub decoder: u64,
}

/// How a child, or the children of a cell, ended.
#[derive(Debug)]
pub struct Ended {
    /// Its answer, or what the parent saw instead of one.
    pub answer: Answer,
    /// What a check had found, and could not check, by its end.
    pub checked: (Vec<CheckFinding>, Vec<Skip>),
    /// The configurations that it proposed.
    pub(super) proposed: Proposed,
    /// Its log lines and the tail of whatever it printed.
    pub log: Option<String>,
    /// That tail alone.
    pub printed: String,
    /// What of the machine had changed under it, and was put back.
    pub changed: Vec<String>,
    /// What its engines noticed of the method.
    pub notices: Vec<String>,
    /// What held the plugin in its place; `None` if the child did not get so far.
    pub sandbox: Option<Sandbox>,
    /// Highest resident memory of a cell's engines.
    pub peaks: Peaks,
    /// Spawn to end, seconds.
    pub wall_s: f64,
}

#[cfg(test)]
impl Ended {
    /// A cell that ended with this answer after a quarter of a second, and said nothing.
    pub(crate) fn testing(answer: Answer) -> Self {
        Ended {
            answer,
            checked: (Vec::new(), Vec::new()),
            proposed: Proposed::default(),
            log: None,
            printed: String::new(),
            changed: Vec::new(),
            notices: Vec::new(),
            sandbox: None,
            peaks: Peaks { encoder: 7, decoder: 5 },
            wall_s: 0.25,
        }
    }
}

/// Jobs under way.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// Whether any job is under way: until none is, children and their scratch folders may be there.
pub fn busy() -> bool {
    UNDER_WAY.load(Ordering::SeqCst) > 0
}

/// Set by a host that was told to end: what is looked at in files is left.
pub static ENDING: AtomicBool = AtomicBool::new(false);

/// Counts one job for as long as it lives.
struct UnderWay;

impl UnderWay {
    fn begin() -> Self {
        UNDER_WAY.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Runs one job in a child of its own.
///
/// Blocks until the child is gone; the calling thread must be the one that stays, because the
/// kernel kills the child when the thread that spawned it ends.
///
/// # Errors
/// What the host could not do: the plugin has nothing to do with it.
pub fn run(
    library: &Path,
    digests: Option<Digests>,
    job: Job,
    limits: &Limits,
    cancel: &AtomicBool,
    on_progress: &mut dyn FnMut(&str, f32),
) -> Result<Ended, HostFault> {
    run_lending(library, digests, job, Vec::new(), limits, cancel, on_progress)
}

/// As [`run`], for a child that gets what is `lent`. A job without a library is about a file, whose
/// path stands in its place.
pub(super) fn run_lending(
    library: &Path,
    digests: Option<Digests>,
    job: Job,
    lent: Vec<OwnedFd>,
    limits: &Limits,
    cancel: &AtomicBool,
    on_progress: &mut dyn FnMut(&str, f32),
) -> Result<Ended, HostFault> {
    let started = Instant::now();
    let _under_way = UnderWay::begin();
    // After the line above: who cancels and then sees that nothing is under way may rely on it.
    if cancel.load(Ordering::SeqCst) {
        return Ok(interrupted(started));
    }
    let (events, inbox) = mpsc::sync_channel(lines::waiting(longest(&job)));
    let asked = Asked { library, digests: digests.as_ref(), limits, events: &events };
    let child = asked.start(0, None, job, lent)?;
    let kept = machine::keep();
    let watched = Watched { limits, container: Container::look(), kept, cancel, started };
    let end = watched.watch(vec![child], &inbox, on_progress)?;
    blameless(limits, &end)?;
    Ok(end)
}

/// What a cell is about, for [`measure`].
#[derive(Debug)]
pub struct CellJob<'a> {
    /// The method.
    pub engine: Engine,
    /// The data.
    pub data: &'a Prepared,
    /// What is done to its rows before the method sees them.
    pub transform: &'a Chain,
    /// What to measure.
    pub evaluation: &'a Evaluation,
    /// Which code of a row it is about, and where what the first one found is handed on.
    pub stage: (Stage, Option<&'a File>),
    /// Rows per block; `None`: chosen from the dimension.
    pub block_rows: Option<usize>,
}

/// Measures one cell with three children: two engines, and a referee that answers.
///
/// # Errors
/// As [`run`].
pub fn measure(
    library: &Path,
    digests: &Digests,
    cell: &CellJob<'_>,
    limits: &Limits,
    cancel: &AtomicBool,
    on_progress: &mut dyn FnMut(&str, f32),
) -> Result<Ended, HostFault> {
    let started = Instant::now();
    let _under_way = UnderWay::begin();
    let mut together = None;
    loop {
        if cancel.load(Ordering::SeqCst) {
            return Ok(interrupted(started));
        }
        let (events, inbox) = mpsc::sync_channel(lines::waiting(lines::OF_WORK));
        let asked = Asked { library, digests: Some(digests), limits, events: &events };
        let children = asked.start_cell(cell, together.clone())?;
        let kept = machine::keep();
        let watched = Watched { limits, container: Container::look(), kept, cancel, started };
        let mut end = watched.watch(children, &inbox, on_progress)?;
        blameless(limits, &end)?;
        match &mut end.answer {
            // Once: with one engine there is no reason left.
            Answer::Again { reason } if together.is_none() => {
                together = Some(std::mem::take(reason));
                continue;
            }
            Answer::Again { .. } => {
                let reason = "it asked for the cell again".to_owned();
                return Err(HostFault::Referee { reason });
            }
            Answer::Failed { outcome: Outcome::OutOfMemory, error } => {
                let train = &cell.data.train;
                let bytes = train.rows as u64 * cell.engine.space.dim as u64 * 4;
                advise(error, (train.rows, bytes), limits.memory);
            }
            _ => {}
        }
        return Ok(end);
    }
}

/// A plugin whose scratch folder was taken away, or lies on a full disk, is not to blame for what it
/// made of that. Its own files are removed by now.
fn blameless(limits: &Limits, end: &Ended) -> Result<(), HostFault> {
    let failed = |outcome: &Outcome| *outcome != Outcome::Cancelled;
    if limits.sandbox && matches!(&end.answer, Answer::Failed { outcome, .. } if failed(outcome)) {
        drop(Scratch::make()?);
    }
    Ok(())
}

/// The end of a child that never was.
fn interrupted(started: Instant) -> Ended {
    Ended {
        answer: Answer::Failed { outcome: Outcome::Cancelled, error: "interrupted".to_owned() },
        checked: (Vec::new(), Vec::new()),
        proposed: Proposed::default(),
        log: None,
        printed: String::new(),
        changed: Vec::new(),
        notices: Vec::new(),
        sandbox: None,
        peaks: Peaks::default(),
        wall_s: started.elapsed().as_secs_f64(),
    }
}

/// What one job is watched with.
struct Watched<'a> {
    limits: &'a Limits,
    container: Container,
    kept: Kept,
    cancel: &'a AtomicBool,
    started: Instant,
}

impl Watched<'_> {
    /// Watches `children` until all are gone. The last of them answers.
    fn watch(
        self,
        mut children: Vec<Child>,
        inbox: &mpsc::Receiver<(usize, Event)>,
        on_progress: &mut dyn FnMut(&str, f32),
    ) -> Result<Ended, HostFault> {
        let last = children.len() - 1;
        let mut checked = Found::default();
        let mut proposed = Proposed::default();
        let mut log = Log::default();
        let mut notices = Vec::new();
        let mut stage = String::from("start");
        // The part of the stage that a call under way covers.
        let mut part = (0.0, 1.0);
        let mut killed: Option<(Outcome, String)> = None;
        let mut drain_until: Option<Instant> = None;
        let mut end_by: Option<Instant> = None;
        let mut next_look = Instant::now();
        while !children.iter().all(Child::over) {
            match inbox.recv_timeout(TICK) {
                Ok((number, Event::Line(message))) => {
                    let child = &mut children[number];
                    match message {
                        // The first answer counts: a process answers once. An engine has none to
                        // give, but that it could not begin.
                        Message::Answer(answer) if number == last || child.held.is_none() => {
                            if child.role.is_none() && child.held.is_some() && answer.begins() {
                                // It had begun: these are the plugin's words.
                                child.answer.get_or_insert(Answer::Failed {
                                    outcome: Outcome::Invalid,
                                    error: "it answered in the host's place".to_owned(),
                                });
                            } else if !child.engine() || answer.begins() {
                                child.answer.get_or_insert(*answer);
                            }
                            let ended = matches!(child.answer, Some(Answer::Ended(_)));
                            if child.role.is_some() && !ended {
                                // Nobody needs the engines any more.
                                children[..last].iter().for_each(|child| kill_group(child.pid));
                            }
                        }
                        // The first word counts: later ones could be the plugin's.
                        Message::Confined(held) => {
                            child.held.get_or_insert(held);
                        }
                        Message::Progress { fraction, .. } if child.engine() => {
                            on_progress(
                                &stage,
                                part.0 + fraction.clamp(0.0, 1.0) * (part.1 - part.0),
                            );
                        }
                        Message::Progress { stage: now, fraction, to } => {
                            stage = lines::stage(&now);
                            part = (fraction, to);
                            on_progress(&stage, fraction);
                        }
                        Message::Left(role) if child.role == Some(Role::Referee) => {
                            let of = children.iter_mut().find(|child| child.role == Some(role));
                            if let Some(of) = of {
                                of.peak_resident =
                                    of.peak_resident.max(most_resident(of.pid).unwrap_or(0));
                                of.left = true;
                                kill_group(of.pid);
                            }
                        }
                        Message::Log { level, text } => log.line(level, &text),
                        Message::Note(text) => log.note(&text),
                        Message::Notice(notice) if child.engine() => {
                            let text = notice.to_string();
                            if notices.len() < MOST_NOTICES && !notices.contains(&text) {
                                notices.push(text);
                            }
                        }
                        Message::Found(finding) if child.role.is_none() => {
                            checked.finding(finding);
                        }
                        Message::Skipped(skip) if child.role.is_none() => checked.skip(skip),
                        Message::Proposed { request, proposals } if child.role.is_none() => {
                            proposed.take(request, proposals);
                        }
                        Message::Answer(_)
                        | Message::Notice(_)
                        | Message::Left(_)
                        | Message::Found(_)
                        | Message::Skipped(_)
                        | Message::Proposed { .. } => {}
                    }
                }
                Ok((number, Event::Closed(garbage))) => {
                    log.garbage(garbage);
                    children[number].closed = true;
                }
                Ok((number, Event::Exited(usage))) => {
                    let child = &mut children[number];
                    let usage = usage.ok();
                    let peak = usage.as_ref().map_or(0, |usage| usage.rusage.maxrss);
                    child.peak_resident = child.peak_resident.max(peak);
                    child.exited = Some(usage.map(|usage| usage.status));
                    // Whatever the plugin started dies with it, and lets go of the pipes.
                    end_group(child.pid);
                    if number == last && !matches!(child.answer, Some(Answer::Ended(_))) {
                        children.iter().for_each(|child| kill_group(child.pid));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.tell_who_left(&mut children);
            // An engine that closed its socket may be about to end: its own end says more than ours.
            if matches!(children[last].answer, Some(Answer::Ended(_))) {
                let until = *end_by.get_or_insert_with(|| Instant::now() + LAST_STEPS);
                if Instant::now() > until {
                    children.iter().for_each(|child| kill_group(child.pid));
                }
            }
            if children.iter().all(|child| child.exited.is_some()) {
                let until = drain_until.get_or_insert_with(|| Instant::now() + DRAIN);
                if Instant::now() > *until {
                    break;
                }
                continue;
            }
            if killed.is_none() && Instant::now() >= next_look {
                next_look = Instant::now() + TICK;
                killed = self.verdict(&mut children, &stage);
                if killed.is_some() {
                    children.iter().for_each(|child| kill_group(child.pid));
                }
            }
        }
        let ended = self.conclude(children, &stage, killed, log, (checked, proposed))?;
        Ok(Ended { notices, ..ended })
    }

    /// Tells the referee of those that left, once all they started is gone too.
    fn tell_who_left(&self, children: &mut [Child]) {
        let Some((referee, engines)) = children.split_last_mut() else { return };
        for engine in engines {
            if engine.left && engine.exited.is_some() {
                engine.left = false;
                if let Some(stdin) = &mut referee.stdin {
                    // One that is gone itself needs no word.
                    let _ = stdin.write_all(b"gone\n");
                }
            }
        }
    }

    /// Why the children have to be ended now, if so.
    fn verdict(&self, children: &mut [Child], stage: &str) -> Option<(Outcome, String)> {
        if self.cancel.load(Ordering::Relaxed) {
            return Some((Outcome::Cancelled, "interrupted".to_owned()));
        }
        if self.started.elapsed() > self.limits.timeout {
            let limit = humantime::format_duration(self.limits.timeout);
            let error = format!("still at {stage} after the time limit of {limit}");
            return Some((Outcome::Timeout, error));
        }
        if let Some(referee) = children.last().filter(|c| c.role == Some(Role::Referee)) {
            self.kept.check(&[referee.pid]);
        }
        children.iter_mut().filter(|child| child.exited.is_none()).find_map(|child| {
            let watch = child.watch.as_mut()?;
            if let Some(passed) = watch.look() {
                return Some((passed.outcome(), passed.text(stage)));
            }
            let limit = self.limits.own_time.filter(|limit| watch.own_time() > *limit)?;
            let limit = humantime::format_duration(limit);
            Some((Outcome::Timeout, format!("still at {stage} after {limit}")))
        })
    }

    fn conclude(
        self,
        mut children: Vec<Child>,
        stage: &str,
        killed: Option<(Outcome, String)>,
        log: Log,
        (checked, proposed): (Found, Proposed),
    ) -> Result<Ended, HostFault> {
        let printed: Vec<String> = children
            .iter_mut()
            .map(|child| child.printed.take().and_then(|of| join_within(of, DRAIN)))
            .map(Option::unwrap_or_default)
            .collect();
        let sandbox = children[0].held.clone();
        let peak = |role| {
            let of = children.iter().find(|child| child.role == Some(role));
            of.map_or(0, |child| {
                child.peak_resident.max(child.watch.as_ref().map_or(0, Watch::resident))
            })
        };
        let peaks = Peaks { encoder: peak(Role::Encoder), decoder: peak(Role::Decoder) };
        let answer = self.answer(&mut children, &printed, stage, killed);
        children.into_iter().for_each(Child::clear);
        let printed = printed.into_iter().filter(|text| !text.is_empty());
        let printed = printed.collect::<Vec<_>>().join("\n");
        Ok(Ended {
            answer: answer?,
            checked: checked.into_parts(),
            proposed,
            changed: self.kept.end(),
            notices: Vec::new(),
            log: log.text(&printed),
            printed,
            sandbox,
            peaks,
            wall_s: self.started.elapsed().as_secs_f64(),
        })
    }

    /// What came of it, once all children are gone.
    fn answer(
        &self,
        children: &mut [Child],
        printed: &[String],
        stage: &str,
        killed: Option<(Outcome, String)>,
    ) -> Result<Answer, HostFault> {
        // That one could not begin says more than what the others made of that.
        let begun = children.iter_mut().filter(|child| child.engine());
        if let Some(answer) = begun.filter_map(|child| child.answer.take()).next() {
            return match answer {
                Answer::HostFailed(fault) => Err(fault),
                answer => Ok(answer),
            };
        }
        let last = children.len() - 1;
        let answer = children[last].answer.take();
        let confined = children.iter().all(|child| child.held.is_some());
        match (killed, answer) {
            (_, Some(Answer::HostFailed(fault))) => Err(fault),
            (_, Some(Answer::Failed { outcome, error })) => {
                Ok(Answer::Failed { outcome, error: lines::error(&error) })
            }
            (None, Some(Answer::Ended(role))) => {
                let of = children.iter().position(|child| child.role == Some(role));
                self.cause_of(&children[of.unwrap_or(0)], &printed[of.unwrap_or(0)], stage)
            }
            (Some((outcome, error)), Some(Answer::Ended(_)) | None) => {
                if !confined && outcome != Outcome::Cancelled {
                    return Err(HostFault::Begin { reason: error });
                }
                Ok(Answer::Failed { outcome, error })
            }
            (_, Some(Answer::Checked(of))) => Ok(Answer::Checked(lines::checked(of))),
            // An answer that was on its way when the limit struck is worth more than the limit.
            (_, Some(answer)) => Ok(answer),
            (None, None) if children[last].role == Some(Role::Referee) => {
                let (_, reason) = cause(children[last].status(), stage, "", false, None);
                let printed = printed[last].lines().next_back().unwrap_or_default();
                let printed = if printed.is_empty() { "" } else { &format!(" ({printed})") };
                Err(HostFault::Referee { reason: format!("{reason}{printed}") })
            }
            (None, None) => self.cause_of(&children[last], &printed[last], stage),
        }
    }

    /// Why `child` ended by itself, without an answer.
    fn cause_of(&self, child: &Child, printed: &str, stage: &str) -> Result<Answer, HostFault> {
        let watched = child.watch.as_ref().map_or(0, Watch::peak);
        let most = watched.max(child.peak_resident.saturating_sub(PROGRAM_PAGES));
        let near = near_limit(most, self.limits.memory);
        let (outcome, error) = match out_of_container(child.status(), stage, &self.container) {
            Some(error) => (Outcome::OutOfMemory, error),
            None => cause(child.status(), stage, printed, near, self.limits.memory),
        };
        // It says that it is confined before it opens the library.
        if child.held.is_none() {
            let printed = if printed.is_empty() { "" } else { &format!(" ({printed})") };
            return Err(HostFault::Begin { reason: format!("{error}{printed}") });
        }
        Ok(Answer::Failed { outcome, error })
    }
}

impl Answer {
    /// True for what a process may answer before it is confined.
    fn begins(&self) -> bool {
        matches!(self, Answer::HostFailed(_) | Answer::Replaced { .. })
    }
}

fn join_within<T>(thread: thread::JoinHandle<T>, patience: Duration) -> Option<T> {
    let end = Instant::now() + patience;
    while !thread.is_finished() && Instant::now() < end {
        thread::sleep(Duration::from_millis(2));
    }
    if thread.is_finished() { thread.join().ok() } else { None }
}
