//! `vq-host new`: writes a complete out-of-tree plugin project that builds and passes as written.
//! One in Python has nothing to build.
//!
//! The files lie in `host/templates`, with `{{name}}` where a value of [`Names`] goes.

use super::say;
use crate::cli::{self, Language};
use miette::{Diagnostic, IntoDiagnostic};
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Longer ids fit no table.
const LONGEST_ID: usize = 40;
/// The SDK's crate, which no plugin can be called.
const SDK: &str = "vq-plugin-api";
/// Where this host's source is.
const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");
/// The tag of this host's own release there.
const RELEASE: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// A file of a project: where it goes and its template.
type Template = (&'static str, &'static str);

const RUST: &[Template] = &[
    ("Cargo.toml", include_str!("../../templates/rust/Cargo.toml.in")),
    ("README.md", include_str!("../../templates/rust/README.md")),
    ("src/lib.rs", include_str!("../../templates/rust/lib.rs")),
    ("tests/conformance.rs", include_str!("../../templates/rust/conformance.rs")),
    ("tests/promises.rs", include_str!("../../templates/rust/promises.rs")),
    ("sweep.toml", include_str!("../../templates/sweep.toml")),
    (".gitignore", include_str!("../../templates/rust/gitignore")),
    (".github/workflows/ci.yml", include_str!("../../templates/rust/ci.yml")),
];

const C: &[Template] = &[
    ("{{file}}.c", include_str!("../../templates/c/method.c")),
    ("vq_plugin.h", include_str!("../../../plugin-api/include/vq_plugin.h")),
    ("Makefile", include_str!("../../templates/c/Makefile")),
    ("README.md", include_str!("../../templates/c/README.md")),
    ("sweep.toml", include_str!("../../templates/sweep.toml")),
    (".gitignore", include_str!("../../templates/make/gitignore")),
    (".github/workflows/ci.yml", include_str!("../../templates/make/ci.yml")),
];

const CPP: &[Template] = &[
    ("{{file}}.cpp", include_str!("../../templates/cpp/method.cpp")),
    ("vq_plugin.h", include_str!("../../../plugin-api/include/vq_plugin.h")),
    ("Makefile", include_str!("../../templates/cpp/Makefile")),
    ("README.md", include_str!("../../templates/cpp/README.md")),
    ("sweep.toml", include_str!("../../templates/sweep.toml")),
    (".gitignore", include_str!("../../templates/make/gitignore")),
    (".github/workflows/ci.yml", include_str!("../../templates/make/ci.yml")),
];

const PYTHON: &[Template] = &[
    ("plugins/{{file}}.py", include_str!("../../templates/python/method.py")),
    ("README.md", include_str!("../../templates/python/README.md")),
    ("sweep.toml", include_str!("../../templates/sweep.toml")),
    (".gitignore", include_str!("../../templates/python/gitignore")),
    (".github/workflows/ci.yml", include_str!("../../templates/python/ci.yml")),
];

/// Why no project was written.
#[derive(Debug, thiserror::Error, Diagnostic)]
enum NewError {
    #[error("`{name}` cannot name a method: {reason}")]
    #[diagnostic(help("{help}"))]
    Name { name: String, reason: String, help: String },
    #[error("{} exists already, and nothing is overwritten", .0.display())]
    #[diagnostic(help("choose another folder with --path DIR, or remove it"))]
    Exists(PathBuf),
    #[error("--api is for Rust: a project in {0} builds without vq-plugin-api")]
    #[diagnostic(help("leave --api out"))]
    ApiOfAnother(&'static str),
    #[error("--api {0} is no folder that holds vq-plugin-api")]
    #[diagnostic(help("give the plugin-api folder of a checkout"))]
    Api(String),
    #[error("failed to write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

pub(super) fn new(args: &cli::NewArgs) -> miette::Result<ExitCode> {
    let names = Names::of(&args.name)?;
    let (templates, api) = match (args.lang, &args.api) {
        (Language::Rust, told) => (RUST, Some(Api::choose(told.as_deref())?)),
        (Language::C | Language::Cpp | Language::Python, Some(_)) => {
            return Err(NewError::ApiOfAnother(args.lang.name()).into());
        }
        (Language::C, None) => (C, None),
        (Language::Cpp, None) => (CPP, None),
        (Language::Python, None) => (PYTHON, None),
    };
    let folder = args.path.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    write_project(&folder, templates, &names.values(args.lang, api.as_ref()))?;
    let mut out = say::out();
    show_next_steps(&folder, args.lang, &names, &mut out).into_diagnostic()?;
    out.flush().into_diagnostic()?;
    if let Some(Api::Release) = &api {
        say::note(&format!(
            "no checkout of {SDK} lies beside this vq-host, so Cargo.toml asks for {RELEASE} of \
             {REPOSITORY}; where cargo cannot get that, --api DIR names a checkout of yours"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// What a method's name becomes in its project.
#[derive(Debug)]
struct Names {
    /// `my-method`: how sweeps call it.
    id: String,
    /// `My method`: how people do.
    title: String,
    /// `MyMethod`.
    type_name: String,
    /// `vq-my-method`. The prefix keeps keywords and the names of known crates away, and lets the
    /// host find the library in its own build folder.
    package: String,
}

impl Names {
    fn of(name: &str) -> Result<Self, NewError> {
        let refuse = |reason: String, help: String| {
            Err(NewError::Name { name: name.to_owned(), reason, help })
        };
        let shape = "a name begins with a letter a to z and goes on with a to z, 0 to 9, - and _";
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(plain) {
            let wrong = name
                .char_indices()
                .find(|&(at, c)| !(plain(c) && (at > 0 || c.is_ascii_lowercase())));
            let reason = match wrong {
                Some((0, c)) => format!("it begins with {c:?}"),
                Some((_, c)) => format!("{c:?} is in it"),
                None => "it is empty".into(),
            };
            let help = match (name.contains(['/', '\\']), nearest_valid(name)) {
                (true, _) => "name the method, and the folder with --path DIR".into(),
                (false, Some(near)) => format!("try `{near}`: {shape}"),
                (false, None) => shape.into(),
            };
            return refuse(reason, help);
        }
        if name.len() > LONGEST_ID {
            let length = name.len();
            return refuse(
                format!("it has {length} characters"),
                format!("take at most {LONGEST_ID}"),
            );
        }
        let package = match name.strip_prefix("vq").and_then(|rest| rest.strip_prefix(['-', '_'])) {
            Some(rest) if !rest.is_empty() => format!("vq-{rest}"),
            _ => format!("vq-{name}"),
        };
        if package.replace('_', "-") == SDK {
            return refuse(format!("its crate would be {SDK}"), "take another name".into());
        }
        let words = || name.split(['-', '_']).filter(|word| !word.is_empty());
        let title = capital(&words().collect::<Vec<_>>().join(" "));
        Ok(Names { id: name.into(), title, type_name: words().map(capital).collect(), package })
    }

    /// `vq_my_method`, as Rust and the library's file name spell the package.
    fn crate_name(&self) -> String {
        self.package.replace('-', "_")
    }

    /// `my_method`, the source file without its suffix where it is not Rust.
    fn file(&self) -> String {
        self.id.replace('-', "_")
    }

    /// The built library or the Python file, from the project's folder.
    fn library(&self, lang: Language) -> String {
        let file = format!("{DLL_PREFIX}{}{DLL_SUFFIX}", self.crate_name());
        match lang {
            Language::Rust => format!("target/release/{file}"),
            Language::C | Language::Cpp => file,
            Language::Python => format!("plugins/{}.py", self.file()),
        }
    }

    /// What stands for each `{{key}}`.
    fn values(&self, lang: Language, api: Option<&Api>) -> Vec<(&'static str, String)> {
        vec![
            // A method in Python is called as its file.
            ("id", if lang == Language::Python { self.file() } else { self.id.clone() }),
            ("title", self.title.clone()),
            ("type", self.type_name.clone()),
            ("package", self.package.clone()),
            ("crate", self.crate_name()),
            ("file", self.file()),
            ("library", self.library(lang)),
            ("repository", REPOSITORY.into()),
            ("tag", RELEASE.into()),
            ("api_note", api.map(Api::note).unwrap_or_default()),
            ("api", api.map(Api::dependency).unwrap_or_default()),
        ]
    }
}

/// The valid id that was probably meant.
fn nearest_valid(name: &str) -> Option<String> {
    let id: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c.to_ascii_lowercase() } else { '-' })
        .skip_while(|c| !c.is_ascii_lowercase())
        .collect();
    let id = id.trim_end_matches('-');
    (!id.is_empty()).then(|| id.to_owned())
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

/// How a Rust project names the SDK.
#[derive(Debug)]
enum Api {
    /// By the repository and the tag of this host's own release: it is in no registry.
    Release,
    /// By the folder it is in on this machine.
    Folder(String),
}

impl Api {
    fn choose(told: Option<&str>) -> Result<Self, NewError> {
        let Some(told) = told else {
            let beside = checkout().and_then(|dir| dir.to_str().map(str::to_owned));
            return Ok(beside.map_or_else(|| Api::Release, Api::Folder));
        };
        let refused = || NewError::Api(told.to_owned());
        let folder = Path::new(told);
        if !is_sdk(folder) {
            return Err(refused());
        }
        // Absolute, as the project may lie anywhere.
        let folder = folder.canonicalize().map_err(|_| refused())?;
        folder.to_str().map(|dir| Api::Folder(dir.to_owned())).ok_or_else(refused)
    }

    /// The value of the dependency in Cargo.toml.
    fn dependency(&self) -> String {
        let text = |text: &str| toml::Value::String(text.to_owned()).to_string();
        match self {
            Api::Release => format!("{{ git = {}, tag = {} }}", text(REPOSITORY), text(RELEASE)),
            Api::Folder(dir) => format!("{{ path = {} }}", text(dir)),
        }
    }

    fn note(&self) -> String {
        match self {
            Api::Release => String::new(),
            Api::Folder(_) => format!(
                "- `Cargo.toml` names {SDK} by its folder on the machine where this was written; elsewhere \
                 put the folder of another checkout there, as CI does.\n"
            ),
        }
    }
}

/// The SDK of the checkout that this program was built in: `plugin-api` beside its target folder.
fn checkout() -> Option<PathBuf> {
    let exe = std::env::current_exe().ok()?.canonicalize().ok()?;
    let target = exe.ancestors().find(|dir| dir.file_name().is_some_and(|n| n == "target"))?;
    Some(target.parent()?.join("plugin-api")).filter(|dir| is_sdk(dir))
}

fn is_sdk(folder: &Path) -> bool {
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).ok();
    let manifest = manifest.and_then(|text| text.parse::<toml::Table>().ok());
    let name = manifest.as_ref().and_then(|m| m.get("package")?.get("name")?.as_str());
    name == Some(SDK)
}

fn filled(template: &str, values: &[(&str, String)]) -> String {
    values.iter().fold(template.to_owned(), |text, (key, value)| {
        text.replace(&format!("{{{{{key}}}}}"), value)
    })
}

fn write_project(
    folder: &Path,
    templates: &[Template],
    values: &[(&str, String)],
) -> Result<(), NewError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| NewError::Write { path, source }
    };
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent).map_err(failed(parent))?;
    }
    // Not create_dir_all: it accepts a folder that is there.
    fs::create_dir(folder).map_err(|source| match source.kind() {
        ErrorKind::AlreadyExists => NewError::Exists(folder.to_owned()),
        _ => failed(folder)(source),
    })?;
    for (name, template) in templates {
        let path = folder.join(filled(name, values));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed(parent))?;
        }
        let text = filled(template, values);
        fs::write(&path, text.trim_end().to_owned() + "\n").map_err(failed(&path))?;
    }
    Ok(())
}

/// The commands from here to a measurement, ready to paste.
fn show_next_steps(
    folder: &Path,
    lang: Language,
    names: &Names,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (library, host) = (names.library(lang), own_command());
    writeln!(
        out,
        "{} is a plugin in {} that works as it is. Next:\n",
        folder.display(),
        lang.name()
    )?;
    writeln!(out, "  cd {}", quoted(&folder.display().to_string()))?;
    match lang {
        Language::Rust => {
            writeln!(out, "  cargo test --release")?;
            writeln!(out, "  cargo build --release")?;
            writeln!(out, "  {host} check {library}")?;
        }
        Language::C | Language::Cpp => {
            writeln!(out, "  make")?;
            writeln!(out, "  {host} check ./{library}")?;
        }
        Language::Python => writeln!(out, "  {host} check {library}")?,
    }
    if lang != Language::Python {
        writeln!(out, "  mkdir -p plugins")?;
        writeln!(out, "  cp {library} plugins/")?;
    }
    writeln!(out, "  {host} run sweep.toml\n")?;
    writeln!(out, "README.md says what to replace to make the method yours.")
}

/// How to call this program from another folder: by name where the PATH leads to it.
fn own_command() -> String {
    let own = std::env::current_exe().and_then(|exe| exe.canonicalize());
    let (Ok(own), Some(path)) = (own, std::env::var_os("PATH")) else { return "vq-host".into() };
    let name = format!("vq-host{}", std::env::consts::EXE_SUFFIX);
    // An empty or relative entry means another folder after `cd`.
    let first = std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .find_map(|dir| dir.join(&name).canonicalize().ok());
    if first.as_ref() == Some(&own) { "vq-host".into() } else { quoted(&own.display().to_string()) }
}

/// `text` as one word of a POSIX shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,".contains(c);
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(plain) {
        return text.to_owned();
    }
    let inner = text.replace('\'', r"'\''");
    if text.starts_with('-') { format!("'./{inner}'") } else { format!("'{inner}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_gives_an_id_a_title_a_type_and_a_crate() {
        let names = Names::of("my-method_2").unwrap();
        let made = (&*names.id, &*names.title, &*names.type_name, &*names.package);
        assert_eq!(made, ("my-method_2", "My method 2", "MyMethod2", "vq-my-method_2"));
        assert_eq!(
            (names.crate_name(), names.file()),
            ("vq_my_method_2".into(), "my_method_2".into())
        );
        assert_eq!(Names::of("vq-mine").unwrap().package, "vq-mine");
        assert_eq!(Names::of("fn").unwrap().package, "vq-fn");
        assert_eq!(Names::of("vq-").unwrap().package, "vq-vq-");
    }

    #[test]
    fn a_name_that_no_sweep_could_use_is_refused_with_one_that_it_could() {
        for (name, reason, help) in [
            ("", "it is empty", "begins with a letter"),
            ("My Method", "it begins with 'M'", "try `my-method`"),
            ("3d", "it begins with '3'", "try `d`"),
            ("a.b", "'.' is in it", "try `a-b`"),
            ("größe", "'ö' is in it", "try `gr-"),
            ("--", "it begins with '-'", "begins with a letter"),
            ("a/b", "'/' is in it", "--path DIR"),
            ("plugin_api", "its crate would be vq-plugin-api", "another name"),
            (&"x".repeat(41), "it has 41 characters", "at most 40"),
        ] {
            let Err(NewError::Name { reason: said, help: helped, .. }) = Names::of(name) else {
                panic!("{name} was not refused");
            };
            assert_eq!(said, reason, "{name}");
            assert!(helped.contains(help), "{name}: {helped}");
        }
    }

    #[test]
    fn no_placeholder_is_left_in_any_file() {
        let names = Names::of("my-method").unwrap();
        let api = Api::Folder("/a \"b\"/c".into());
        let all = [
            (Language::Rust, RUST),
            (Language::C, C),
            (Language::Cpp, CPP),
            (Language::Python, PYTHON),
        ];
        for (lang, templates) in all {
            let values = names.values(lang, Some(&api));
            for (path, template) in templates {
                for text in [filled(path, &values), filled(template, &values)] {
                    // C begins nested initializers with two braces, never followed by a name.
                    let left = text.match_indices("{{").find(|(at, _)| {
                        text[at + 2..].starts_with(|c: char| c.is_ascii_lowercase())
                    });
                    assert!(left.is_none(), "{path} of {}: {left:?}", lang.name());
                }
            }
        }
        let dependency = api.dependency();
        let table: toml::Table = format!("x = {dependency}").parse().unwrap();
        assert_eq!(table["x"]["path"].as_str(), Some("/a \"b\"/c"));
    }

    #[test]
    fn the_methods_of_the_templates_with_model_and_scorer_stay_short() {
        let lines = |templates: &[Template], name: &str| {
            let found = templates.iter().find(|(path, _)| path.ends_with(name));
            found.expect("the method's file").1.lines().count()
        };
        assert!(lines(RUST, "lib.rs") < 110);
        assert!(lines(C, ".c") < 210);
        assert!(lines(CPP, ".cpp") < 210);
        assert!(lines(PYTHON, ".py") < 40);
    }

    #[test]
    fn without_a_checkout_the_sdk_is_that_of_the_release() {
        let dependency = Api::Release.dependency();
        let table: toml::Table = format!("x = {dependency}").parse().unwrap();
        assert_eq!(table["x"]["git"].as_str(), Some(REPOSITORY));
        assert_eq!(table["x"]["tag"].as_str(), Some(RELEASE));
        for other in ["", "0.1", "latest", "/nowhere", "."] {
            assert!(matches!(Api::choose(Some(other)), Err(NewError::Api(_))), "{other}");
        }
    }

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        assert_eq!(quoted("/a/b-c.d"), "/a/b-c.d");
        assert_eq!(quoted("/a b"), "'/a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted("-x"), "'./-x'");
    }
}
