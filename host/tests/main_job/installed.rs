//! An installation: plugins under a prefix, completions, manual pages.

use crate::fixture::{Site, shipped};
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn plugins_are_found_under_the_prefix_that_the_binary_is_in() {
    let site = Site::with(&[]);
    let host = site.command(&[]).get_program().to_owned();
    let library = &shipped()["sq"];
    for (binary, plugins, found) in [
        ("usr/bin/vq-host", "usr/lib/vq-host/plugins", true),
        ("folder/vq-host", "folder/plugins", true),
        ("other/sbin/vq-host", "other/lib/vq-host/plugins", false),
    ] {
        let place = |name: &str| site.path(name).canonicalize().unwrap();
        let folder = |name: &str| fs::create_dir_all(site.path(name)).unwrap();
        folder(Path::new(binary).parent().unwrap().to_str().unwrap());
        folder(plugins);
        // By another process: what this one has open for writing, a child that another test starts
        // meanwhile has too, and then it is too busy to be run.
        let copied = Command::new("cp").arg(&host).arg(site.path(binary)).status();
        assert!(copied.unwrap().success());
        fs::copy(library, site.path(plugins).join(library.file_name().unwrap())).unwrap();
        let link = site.path("link");
        let _of_the_last_round = fs::remove_file(&link);
        std::os::unix::fs::symlink(site.path(binary), &link).unwrap();
        for program in [&site.path(binary), &link] {
            let mut command = Command::new(program);
            command.args(["methods", "--format", "json"]).current_dir(site.path("home"));
            command.env("HOME", site.path("home")).env("VQ_CACHE_DIR", site.path("cache"));
            for name in ["VQ_PLUGIN_PATH", "XDG_DATA_HOME"] {
                command.env_remove(name);
            }
            let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
            let file = place(plugins).join(library.file_name().unwrap());
            assert_eq!(said.contains(file.to_str().unwrap()), found, "{binary}: {said}");
        }
    }
}

/// The verbs that `--help` lists.
fn verbs(site: &Site) -> Vec<String> {
    let help = site.vq(&["--help"]).expect_code(0).stdout;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| line.starts_with("  "));
    let verbs: Vec<String> = listed
        .filter_map(|line| Some(line.strip_prefix("  ")?.split(' ').next()?.into()))
        .collect();
    verbs.into_iter().filter(|verb: &String| !verb.is_empty() && verb != "help").collect()
}

#[test]
fn completions_and_manual_pages_know_every_verb() {
    let site = Site::with(&[]);
    let verbs = verbs(&site);
    assert!(verbs.len() > 12, "{verbs:?}");
    for shell in ["bash", "fish", "zsh"] {
        let script = site.vq(&["completions", shell]).expect_code(0).stdout;
        assert!(verbs.iter().all(|verb| script.contains(verb.as_str())), "{shell}");
        site.write("script", &script);
        match Command::new(shell).arg("-n").arg(site.path("script")).output() {
            Err(_) => {
                println!("skipped: {shell} is not installed, which would read its completions")
            }
            Ok(read) => assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr)),
        }
    }
    site.vq(&["man", "pages/man1"]).expect_code(0);
    for verb in &verbs {
        let page = fs::read_to_string(site.path(&format!("pages/man1/vq-host-{verb}.1"))).unwrap();
        assert!(page.contains(".TH vq-host"), "{page}");
    }
    site.write("file", "");
    site.vq(&["man", "file/pages"]).expect_code(1).says("cannot write into file/pages");
}
