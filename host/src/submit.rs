//! A sweep as a job array of an existing scheduler: which task measures which cells, and the scripts
//! that do it.
//!
//! ```text
//! <folder>/tasks/3.cells    the cells of task 3, a name and a title a line
//! <folder>/task.sh          one task of the array
//! <folder>/merge.sh         after all of them, whatever became of them
//! <folder>/stores/3-*.db    a store for each attempt of task 3
//! <folder>/logs/            what they said
//! <folder>/jobs             the ids that the scheduler gave
//! ```

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `[submit]`: what is asked of a scheduler. Nothing here changes a result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubmitOptions {
    /// Tasks at most.
    pub tasks: Option<usize>,
    /// Who pays.
    pub account: Option<String>,
    /// The scheduler's queue; Slurm calls it a partition.
    pub queue: Option<String>,
    /// Limit of a task.
    pub time: Option<Duration>,
    /// Bytes of a task.
    pub memory: Option<u64>,
    /// Processors of a task.
    pub cpus: Option<usize>,
    /// GPUs of a task.
    pub gpus: Option<usize>,
    /// Environment modules to load first.
    pub modules: Vec<String>,
    /// Whole nodes.
    pub exclusive: bool,
    /// Where each node keeps prepared data.
    pub cache: Option<PathBuf>,
}

/// A cell to be measured by some task.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// See [`Cell::name`](crate::plan::Cell::name).
    pub name: String,
    /// For people.
    pub title: String,
    /// Expected seconds.
    pub seconds: f64,
}

/// The cells of one task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Task {
    /// In the order of the plan.
    pub cells: Vec<Load>,
}

impl Task {
    /// Expected seconds.
    pub fn seconds(&self) -> f64 {
        self.cells.iter().map(|cell| cell.seconds).sum()
    }

    /// The file that `--partition list:FILE` takes.
    pub fn listed(&self) -> String {
        self.cells.iter().map(|cell| format!("{} {}\n", cell.name, cell.title)).collect()
    }
}

/// Shares `cells` out among at most `tasks` tasks that take about as long each: the longest first,
/// always to the task that has least. O(cells · tasks).
pub fn batches(cells: &[Load], tasks: usize) -> Vec<Task> {
    let tasks = tasks.clamp(1, cells.len().max(1));
    let mut order: Vec<usize> = (0..cells.len()).collect();
    order.sort_by(|a, b| cells[*b].seconds.total_cmp(&cells[*a].seconds).then(a.cmp(b)));
    let mut shares: Vec<(f64, Vec<usize>)> = vec![(0.0, Vec::new()); tasks];
    for at in order {
        // Of equals the one with fewer cells, so that none stays empty where nothing is known.
        let least =
            shares.iter_mut().min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.len().cmp(&b.1.len())));
        if let Some((seconds, cells_of)) = least {
            *seconds += cells[at].seconds;
            cells_of.push(at);
        }
    }
    let mut batches = Vec::new();
    for (_, mut of_task) in shares {
        of_task.sort_unstable();
        let cells: Vec<Load> = of_task.into_iter().map(|at| cells[at].clone()).collect();
        if !cells.is_empty() {
            batches.push(Task { cells });
        }
    }
    batches
}

/// What the scripts have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scripts {
    /// `vq-host` itself, absolute.
    pub program: PathBuf,
    /// The sweep, absolute.
    pub sweep: PathBuf,
    /// Where the command was typed: `./plugins` is looked for there.
    pub directory: PathBuf,
    /// The folder of the submission, absolute.
    pub folder: PathBuf,
    /// The store that all is merged into, absolute.
    pub store: PathBuf,
    /// Further arguments of `run`, such as where plugins are.
    pub arguments: Vec<String>,
    /// What is asked of the scheduler.
    pub options: SubmitOptions,
}

impl Scripts {
    /// The script of the array, for Slurm.
    pub fn slurm_task(&self) -> String {
        let Self { options, .. } = self;
        let mut script = "#!/bin/bash\n".to_owned();
        let mut ask = |line: String| {
            let _ = writeln!(script, "#SBATCH {line}");
        };
        ask("--job-name=vq-host".into());
        ask(format!("--output={}/logs/%a-%A.log", path_for_slurm(&self.folder)));
        ask("--open-mode=append".into());
        ask("--requeue".into());
        // A minute to end in good order: the cells at work are recorded as cancelled.
        ask("--signal=B:TERM@60".into());
        if let Some(time) = options.time {
            ask(format!("--time={}", time.as_secs().div_ceil(60)));
        }
        if let Some(memory) = options.memory {
            ask(format!("--mem={}M", memory.div_ceil(1 << 20)));
        }
        if let Some(cpus) = options.cpus {
            ask(format!("--cpus-per-task={cpus}"));
        }
        if let Some(gpus) = options.gpus {
            ask(format!("--gpus={gpus}"));
        }
        if options.exclusive {
            ask("--exclusive".into());
        }
        self.ask_for_account(&mut script);
        script.push_str("set -euo pipefail\n");
        self.prepare(&mut script);
        let (folder, program) = (quoted(&self.folder), quoted(&self.program));
        let _ = write!(
            script,
            "task=$SLURM_ARRAY_TASK_ID\n\
             # A requeued task may meet its former self: every attempt has a store of its own, and takes\n\
             # over what earlier ones finished.\n\
             attempt=$task-$SLURM_JOB_ID-${{SLURM_RESTART_COUNT:-0}}\n\
             own={folder}/stores/$attempt.db\n\
             for former in {folder}/stores/$task-*.db; do\n    \
                 if [[ -e $former && $former != \"$own\" ]]; then\n        \
                     {program} merge \"$own\" \"$former\" || true\n    \
                 fi\n\
             done\n\
             exec {run} --partition list:{folder}/tasks/\"$task\".cells --store \"$own\"\n",
            run = self.run(),
        );
        script
    }

    /// The script that merges, for Slurm.
    pub fn slurm_merge(&self) -> String {
        let mut script = "#!/bin/bash\n#SBATCH --job-name=vq-host-merge\n".to_owned();
        let folder = path_for_slurm(&self.folder);
        let _ = writeln!(script, "#SBATCH --output={folder}/logs/merge-%j.log");
        self.ask_for_account(&mut script);
        script.push_str("set -euo pipefail\n");
        self.load_modules(&mut script);
        let _ = writeln!(script, "cd {}\nexec {}", quoted(&self.directory), self.merge());
        script
    }

    /// A command for each task and one that merges, for any other scheduler.
    pub fn commands(&self, tasks: usize) -> Vec<String> {
        let folder = quoted(&self.folder);
        let directory = quoted(&self.directory);
        let cache = match &self.options.cache {
            Some(cache) => format!("VQ_CACHE_DIR={} ", quoted(cache)),
            None => String::new(),
        };
        let run = self.run();
        let task = |task| {
            format!(
                "cd {directory} && {cache}{run} --partition list:{folder}/tasks/{task}.cells --store {folder}/stores/{task}-0.db"
            )
        };
        (1..=tasks).map(task).chain([format!("cd {directory} && {}", self.merge())]).collect()
    }

    fn run(&self) -> String {
        let mut line = format!("{} run {}", quoted(&self.program), quoted(&self.sweep));
        for argument in &self.arguments {
            line.push(' ');
            line.push_str(&quoted(Path::new(argument)));
        }
        line
    }

    fn merge(&self) -> String {
        let [program, store, folder] =
            [&self.program, &self.store, &self.folder].map(|path| quoted(path));
        format!("{program} merge {store} {folder}/stores/*.db")
    }

    fn ask_for_account(&self, script: &mut String) {
        let SubmitOptions { account, queue, .. } = &self.options;
        for (key, value) in [("account", account), ("partition", queue)] {
            if let Some(value) = value {
                let _ = writeln!(script, "#SBATCH --{key}={}", escaped_for_slurm(value));
            }
        }
    }

    fn load_modules(&self, script: &mut String) {
        if !self.options.modules.is_empty() {
            // Functions of a login shell; they use variables that are not set.
            script.push_str("set +u\n");
            for module in &self.options.modules {
                let _ = writeln!(script, "module load {}", quoted(Path::new(module)));
            }
            script.push_str("set -u\n");
        }
    }

    fn prepare(&self, script: &mut String) {
        self.load_modules(script);
        let _ = writeln!(script, "cd {}", quoted(&self.directory));
        match &self.options.cache {
            Some(cache) => {
                let _ = writeln!(script, "export VQ_CACHE_DIR={}", quoted(cache));
            }
            // One for all tasks of a node, on its own disk.
            None => script.push_str(
                "export VQ_CACHE_DIR=${VQ_CACHE_DIR:-${TMPDIR:-/tmp}/vq-host-$(id -u)}\n",
            ),
        }
    }
}

/// As a shell reads it back.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// As a line of `#SBATCH` reads it back.
fn escaped_for_slurm(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if c.is_whitespace() || "\\'\"#".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// As [`escaped_for_slurm`], where a percent sign begins a pattern.
fn path_for_slurm(path: &Path) -> String {
    escaped_for_slurm(&path.to_string_lossy()).replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(seconds: &[f64]) -> Vec<Load> {
        let load = |(at, seconds): (usize, &f64)| Load {
            name: format!("{at:016x}"),
            title: format!("cell {at}"),
            seconds: *seconds,
        };
        seconds.iter().enumerate().map(load).collect()
    }

    #[test]
    fn every_cell_is_in_one_task_and_tasks_take_about_as_long() {
        let cells = loads(&[60.0, 1.0, 1.0, 30.0, 30.0, 2.0, 1.0, 55.0]);
        let tasks = batches(&cells, 3);
        let mut all: Vec<Load> = tasks.iter().flat_map(|task| task.cells.clone()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(all, cells);
        let seconds: Vec<f64> = tasks.iter().map(Task::seconds).collect();
        assert!(seconds.iter().all(|of| (58.0..=62.0).contains(of)), "{seconds:?}");
        assert_eq!(batches(&cells, 100).len(), 8);
        assert_eq!(batches(&loads(&[0.0; 9]), 3).iter().map(|of| of.cells.len()).max(), Some(3));
        assert!(batches(&[], 4).is_empty());
        assert!(tasks[0].listed().starts_with("0000000000000000 cell 0\n"));
    }

    fn scripts() -> Scripts {
        Scripts {
            program: "/opt/vq host/vq-host".into(),
            sweep: "/home/a/s.toml".into(),
            directory: "/home/a".into(),
            folder: "/home/a/it's/1".into(),
            store: "/home/a/results/s.db".into(),
            arguments: vec!["--plugin-dir".into(), "/home/a/plugins".into()],
            options: SubmitOptions {
                account: Some("lab".into()),
                queue: Some("long".into()),
                time: Some(Duration::from_secs(5400)),
                memory: Some(9 << 30),
                cpus: Some(8),
                gpus: Some(1),
                modules: vec!["gcc/13".into()],
                exclusive: true,
                ..SubmitOptions::default()
            },
        }
    }

    #[test]
    fn what_is_asked_of_the_scheduler_stands_at_the_head() {
        let script = scripts().slurm_task();
        for line in [
            r"#SBATCH --output=/home/a/it\'s/1/logs/%a-%A.log",
            "#SBATCH --account=lab",
            "#SBATCH --partition=long",
            "#SBATCH --time=90",
            "#SBATCH --mem=9216M",
            "#SBATCH --cpus-per-task=8",
            "#SBATCH --gpus=1",
            "#SBATCH --exclusive",
            "module load gcc/13",
            "cd /home/a",
        ] {
            assert!(script.lines().any(|of| of == line), "{line} in\n{script}");
        }
        assert!(script.contains(r"own='/home/a/it'\''s/1'/stores/$attempt.db"), "{script}");
        let bare = Scripts { options: SubmitOptions::default(), ..scripts() }.slurm_task();
        assert!(!bare.contains("--account") && !bare.contains("module"), "{bare}");
        let odd = Path::new(r#"/a b/50%/#1/"c"\d"#);
        assert_eq!(path_for_slurm(odd), r#"/a\ b/50%%/\#1/\"c\"\\d"#);
    }

    #[test]
    fn shells_understand_what_is_written() {
        let parts = scripts();
        let mut texts = vec![parts.slurm_task(), parts.slurm_merge()];
        texts.push(parts.commands(2).join("\n"));
        for text in texts {
            let ended = std::process::Command::new("bash").args(["-n", "-c", &text]).status();
            assert!(ended.unwrap().success(), "{text}");
        }
        let mut parts = parts;
        parts.options.cache = Some("/fast disk".into());
        let commands = parts.commands(2);
        assert_eq!(commands.len(), 3);
        let begins = "cd /home/a && VQ_CACHE_DIR='/fast disk' '/opt/vq host/vq-host' run ";
        assert!(commands[0].starts_with(begins), "{}", commands[0]);
        let begins = "cd /home/a && '/opt/vq host/vq-host' merge /home/a/results/s.db ";
        assert!(commands[2].starts_with(begins), "{}", commands[2]);
    }
}
