//! A sweep submitted to a scheduler: to a stand-in that takes the scripts and runs them, and to a real
//! Slurm where one is installed.

use crate::fixture::{Site, sweep};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

const METHODS: &str = "[[method]]\nuse = \"sq\"\nparams.bits = [2, 3, 4, 5, 6, 7, 8]\n\n\
     [[method]]\nuse = \"cast\"\nparams.type = [\"f16\", \"fp8_e4m3\"]\n";

/// A scheduler that gives ids, and never has a job: it says what it was told in `told`.
const SBATCH: &str = "#!/bin/bash\necho \"$*\" >> \"$(dirname \"$0\")/told\"\necho 4711\n";

/// A site with a sweep of nine cells, and `sbatch` and `squeue` of its own.
fn nine_cells(submit: &str) -> Site {
    let site = Site::shipped();
    site.write("s.toml", &(sweep("[1]", METHODS) + submit));
    fs::create_dir(site.path("bin")).expect("a folder for the scheduler");
    for (name, script) in [("sbatch", SBATCH), ("squeue", "#!/bin/bash\n")] {
        site.write(&format!("bin/{name}"), script);
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(site.path("bin").join(name), executable).expect("a file of ours");
    }
    site
}

/// `vq-host` with these arguments, where the scheduler of the site is found.
fn vq(site: &Site, arguments: &[&str]) -> Command {
    let mut command = site.command(arguments);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", site.path("bin").display()));
    command
}

fn said(command: &mut Command) -> (i32, String, String) {
    let ended = command.output().expect("a shell or vq-host");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (ended.status.code().unwrap_or(-1), text(&ended.stdout), text(&ended.stderr))
}

/// A shell as the scheduler starts it, in the environment of the site.
fn shell(site: &Site) -> Command {
    let like = vq(site, &[]);
    let mut shell = Command::new("bash");
    shell.current_dir(site.path("."));
    for (name, value) in like.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

/// Runs a task as the scheduler would; its exit code.
fn run_task(site: &Site, folder: &str, task: u32, job: u32, restarts: u32) -> i32 {
    let mut shell = shell(site);
    shell.arg(site.path(folder).join("task.sh"));
    shell.env("SLURM_ARRAY_TASK_ID", task.to_string()).env("SLURM_JOB_ID", job.to_string());
    if restarts > 0 {
        shell.env("SLURM_RESTART_COUNT", restarts.to_string());
    }
    said(&mut shell).0
}

fn merge(site: &Site, folder: &str) {
    let script = site.path(folder).join("merge.sh");
    assert_eq!(said(shell(site).arg(script)).0, 0);
}

fn stores(site: &Site, folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(site.path(folder).join("stores")).expect("a folder of stores");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

#[test]
fn what_is_submitted_is_measured_once_and_what_is_missing_is_submitted_again() {
    let site = nine_cells("\n[submit]\ntasks = 3\naccount = \"lab\"\ntime = \"2h\"\n");
    let (code, out, err) = said(&mut vq(&site, &["submit", "s.toml", "--dry-run"]));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("#SBATCH --account=lab") && out.contains("#SBATCH --time=120"), "{out}");
    assert_eq!(out.lines().filter(|line| line.contains(" gauss sq bits=")).count(), 7, "{out}");
    assert!(!site.path("results.submit").exists());

    let (code, out, err) = said(&mut vq(&site, &["submit", "s.toml", "--exclusive"]));
    assert_eq!((code, out.as_str()), (0, "4711\n4711\n"), "{err}");
    let told = fs::read_to_string(site.path("bin/told")).unwrap();
    let told: Vec<&str> = told.lines().collect();
    assert!(told[0].starts_with("--parsable --array=1-3 ") && told[0].ends_with("/1/task.sh"));
    assert!(told[1].starts_with("--parsable --dependency=afterany:4711 "), "{told:?}");
    let folder = "results.submit/1";
    let script = fs::read_to_string(site.path(folder).join("task.sh")).unwrap();
    assert!(script.contains("#SBATCH --exclusive\n"));

    // One task, twice: the second attempt has what the first finished, and measures nothing.
    assert_eq!(run_task(&site, folder, 1, 11, 0), 0);
    assert_eq!(run_task(&site, folder, 1, 11, 1), 0);
    let attempts = stores(&site, folder);
    assert_eq!(attempts.len(), 2, "{attempts:?}");
    let records = |path: &PathBuf| site.records_of(path.to_str().unwrap());
    assert_eq!(records(&attempts[0]), records(&attempts[1]));
    assert_eq!(run_task(&site, folder, 2, 12, 0), 0);
    merge(&site, folder);
    let merged = site.records();
    assert_eq!(merged.len(), 6);

    // The third never ran: it alone is submitted again.
    let (code, _, err) = said(&mut vq(&site, &["submit", "s.toml"]));
    assert!(code == 0 && err.contains("3 cells in 3 tasks"), "{err}");
    for task in 1..=3 {
        assert_eq!(run_task(&site, "results.submit/2", task, 20 + task, 0), 0);
    }
    // Not merged, as when the merge was killed: the next submission does it.
    let (code, _, err) = said(&mut vq(&site, &["submit", "s.toml"]));
    assert!(code == 0 && err.contains("3 records of earlier submissions taken over"), "{err}");
    assert!(err.contains("9 cells done in") && err.contains("nothing to submit"), "{err}");
    let all = site.records();
    assert_eq!(all.len(), 9);
    assert!(merged.iter().all(|record| all.contains(record)));
}

#[test]
fn for_another_scheduler_there_is_one_command_a_task() {
    let site = nine_cells("");
    let (code, out, err) = said(&mut vq(&site, &["submit", "s.toml", "--print", "--tasks", "2"]));
    assert_eq!(code, 0, "{err}");
    assert_eq!(out.lines().count(), 3, "{out}");
    for line in out.lines() {
        let (code, _, err) = said(shell(&site).args(["-c", line]));
        assert_eq!(code, 0, "{line}: {err}");
    }
    assert_eq!(site.records().len(), 9);
    assert!(!site.path("bin/told").exists());
}

#[test]
fn what_is_still_at_work_is_not_submitted_again() {
    let site = nine_cells("");
    assert_eq!(said(&mut vq(&site, &["submit", "s.toml"])).0, 0);
    site.write("bin/squeue", "#!/bin/bash\necho RUNNING\n");
    let (code, _, err) = said(&mut vq(&site, &["submit", "s.toml"]));
    assert!(code == 1 && err.contains("is still at work as job 4711"), "{err}");
    site.write(
        "bin/squeue",
        "#!/bin/bash\necho slurm_load_jobs error: Invalid job id >&2; exit 1\n",
    );
    site.write("bin/sbatch", "#!/bin/bash\necho no such account >&2; exit 1\n");
    let (code, _, err) = said(&mut vq(&site, &["submit", "s.toml", "--account", "x"]));
    assert!(code == 1 && err.contains("no such account"), "{err}");
    let (code, _, err) = said(&mut vq(&site, &["submit", "s.toml", "--partition", "hash:1/2"]));
    assert!(code == 1 && err.contains("submit shares all cells out"), "{err}");
}
