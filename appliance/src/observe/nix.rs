//! What the local Nix is configured to build.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use serde::Deserialize;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Command,
};

/// How long Nix may take to print its settings. It does so in milliseconds, from an SD card in a
/// second.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Nix's settings as JSON are about 60 KiB.
const MAX_OUTPUT_BYTES: u64 = 1 << 20;

/// What is shown of Nix's words when it fails.
const MAX_ERROR_BYTES: usize = 1024;

/// Experimental features that are system features, too, once they are enabled, without being shown
/// among them (Nix's `store-api.cc`).
pub(crate) const IMPLIED: [&str; 2] = ["ca-derivations", "recursive-nix"];

/// The settings that decide what the local Nix builds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NixConfig {
    /// `system`: what it takes itself for. Wins over what the hardware says.
    pub system: String,
    /// `extra-platforms`: systems it builds beside its own, natively or emulated.
    pub extra_platforms: BTreeSet<String>,
    /// `system-features`, and those that come with `experimental-features`: nix-daemon refuses
    /// derivations that require any other.
    pub system_features: BTreeSet<String>,
    /// `max-jobs`: builds at once; 0 is none.
    pub max_jobs: u32,
    /// `cores`: for each build; 0 is all.
    pub cores: u32,
}

/// Why Nix did not tell.
#[derive(Debug, thiserror::Error)]
pub enum NixConfigError {
    /// The program could not be run.
    #[error("cannot run {program}: {source}; is Nix installed?", program = .program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It took too long.
    #[error("{program} did not print its settings within {waited_s} s", program = .program.display())]
    Timeout {
        /// The program.
        program: PathBuf,
        /// Time waited, in seconds.
        waited_s: u64,
    },
    /// It knows neither spelling of the command, or its configuration is broken.
    #[error("{program} does not print its settings ({status}): {stderr}", program = .program.display())]
    Refused {
        /// The program.
        program: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// Its last words.
        stderr: String,
    },
    /// What it printed makes no sense.
    #[error("the settings that {program} prints make no sense: {reason}", program = .program.display())]
    Output {
        /// The program.
        program: PathBuf,
        /// What is wrong with them.
        reason: String,
    },
}

/// Asks a `nix` program (a path, or a name to be found on `PATH`) for its settings: by
/// `nix config show`, or by `nix show-config` if it is older than 2.19.
///
/// # Errors
///
/// [`NixConfigError`]. Never waits longer than 20 s for either spelling.
pub async fn nix_config(program: &Path) -> Result<NixConfig, NixConfigError> {
    match show(program, &["config", "show", "--json"]).await {
        // An old Nix does not know the command. If it fails for another reason, so will this.
        Err(NixConfigError::Refused { .. }) => show(program, &["show-config", "--json"]).await,
        shown => shown,
    }
}

async fn show(program: &Path, arguments: &[&str]) -> Result<NixConfig, NixConfigError> {
    let failed = |source| NixConfigError::Run { program: program.to_owned(), source };
    let mut child = Command::new(program)
        .args(["--extra-experimental-features", "nix-command"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let answer = async {
        let output = tokio::try_join!(bounded(stdout), bounded(stderr))?;
        io::Result::Ok((output, child.wait().await?))
    };
    let ((stdout, stderr), status) = tokio::time::timeout(ANSWER_WITHIN, answer)
        .await
        .map_err(|_| NixConfigError::Timeout {
            program: program.to_owned(),
            waited_s: ANSWER_WITHIN.as_secs(),
        })?
        .map_err(failed)?;
    if !status.success() {
        let stderr = String::from_utf8_lossy(last(&stderr)).trim().to_owned();
        return Err(NixConfigError::Refused { program: program.to_owned(), status, stderr });
    }
    parse(&stdout).map_err(|reason| NixConfigError::Output { program: program.to_owned(), reason })
}

/// Reads to the end, or until more came than any Nix prints.
async fn bounded(stream: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(MAX_OUTPUT_BYTES + 1).read_to_end(&mut bytes).await?;
    }
    if bytes.len() as u64 > MAX_OUTPUT_BYTES {
        return Err(io::Error::other(format!("it prints more than {MAX_OUTPUT_BYTES} bytes")));
    }
    Ok(bytes)
}

fn last(text: &[u8]) -> &[u8] {
    &text[text.len().saturating_sub(MAX_ERROR_BYTES)..]
}

/// A setting: an object of which only the value matters here.
#[derive(Deserialize)]
struct Setting {
    value: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Settings {
    system: Setting,
    extra_platforms: Option<Setting>,
    system_features: Option<Setting>,
    experimental_features: Option<Setting>,
    max_jobs: Option<Setting>,
    cores: Option<Setting>,
}

/// Reads the settings in the JSON that every Nix since 2.4 and Lix print: one object, by setting's
/// name, of objects with a `value`.
///
/// # Errors
///
/// What is wrong, in words.
pub fn parse(json: &[u8]) -> Result<NixConfig, String> {
    let settings: Settings = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let system = settings.system.value.as_str().filter(|system| !system.is_empty());
    let mut system_features = words("system-features", settings.system_features)?;
    let experimental = words("experimental-features", settings.experimental_features)?;
    system_features.extend(experimental.into_iter().filter(|it| IMPLIED.contains(&it.as_str())));
    Ok(NixConfig {
        system: system.ok_or("system is no text")?.to_owned(),
        extra_platforms: words("extra-platforms", settings.extra_platforms)?,
        system_features,
        max_jobs: number("max-jobs", settings.max_jobs, 1)?,
        cores: number("cores", settings.cores, 0)?,
    })
}

/// A set: a list of texts, or one text with blanks between.
fn words(name: &str, setting: Option<Setting>) -> Result<BTreeSet<String>, String> {
    let words = match setting.map(|setting| setting.value) {
        None => Some(BTreeSet::new()),
        Some(Value::String(text)) => Some(text.split_whitespace().map(str::to_owned).collect()),
        Some(Value::Array(list)) => {
            list.into_iter().map(|word| word.as_str().map(str::to_owned)).collect()
        }
        Some(_) => None,
    };
    words.ok_or_else(|| format!("{name} is no list of words"))
}

/// A number, or its text.
fn number(name: &str, setting: Option<Setting>, default: u32) -> Result<u32, String> {
    let number = match setting.map(|setting| setting.value) {
        None => Some(u64::from(default)),
        Some(Value::String(text)) => text.parse().ok(),
        Some(value) => value.as_u64(),
    };
    number
        .map(|number| u32::try_from(number).unwrap_or(u32::MAX))
        .ok_or_else(|| format!("{name} is no number"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    /// As Nix 2.26.3 prints it, cut to a few settings.
    const JSON: &str = r#"{
        "cores": {"aliases":["build-cores"],"defaultValue":2,"description":"…","documentDefault":false,"experimentalFeature":null,"value":0},
        "extra-platforms": {"aliases":[],"defaultValue":[],"value":["i686-linux","x86_64-v1-linux"]},
        "max-jobs": {"aliases":["build-max-jobs"],"defaultValue":1,"value":4},
        "pure-eval": {"value": false},
        "system": {"defaultValue":"x86_64-linux","value":"aarch64-linux"},
        "system-features": {"value":["benchmark","big-parallel","kvm"]}
    }"#;

    fn expected() -> NixConfig {
        let set = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        NixConfig {
            system: "aarch64-linux".to_owned(),
            extra_platforms: set(&["i686-linux", "x86_64-v1-linux"]),
            system_features: set(&["benchmark", "big-parallel", "kvm"]),
            max_jobs: 4,
            cores: 0,
        }
    }

    #[test]
    fn experimental_features_that_are_system_features_count() {
        let json = JSON.replacen(
            '{',
            r#"{"experimental-features": {"value": ["nix-command", "ca-derivations"]},"#,
            1,
        );
        let features = parse(json.as_bytes()).unwrap().system_features;
        let expected = ["benchmark", "big-parallel", "ca-derivations", "kvm"];
        assert_eq!(features, expected.map(str::to_owned).into());
    }

    /// A program that plays Nix.
    fn fake(script: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("json"), JSON).unwrap();
        // Written by another process: a file that this one has had open for writing may not be
        // executed while a fork of another test still holds it ("text file busy").
        let script = format!("#!/bin/sh\ncd {}\n{script}\n", dir.path().display());
        let written = std::process::Command::new("sh")
            .args(["-c", r#"printf %s "$1" >nix && chmod +x nix"#, "sh", &script])
            .current_dir(dir.path())
            .status()
            .unwrap();
        assert!(written.success());
        let path = dir.path().join("nix");
        (dir, path)
    }

    #[test]
    fn settings_are_read() {
        assert_eq!(parse(JSON.as_bytes()), Ok(expected()));
        let minimal = parse(br#"{"system":{"value":"riscv64-linux"}}"#).unwrap();
        assert_eq!((minimal.max_jobs, minimal.cores), (1, 0));
        let old = br#"{"system":{"value":"a"},"max-jobs":{"value":"8"},"system-features":{"value":"kvm big"}}"#;
        let old = parse(old).unwrap();
        assert_eq!((old.max_jobs, old.system_features.len()), (8, 2));
    }

    #[test]
    fn settings_that_make_no_sense_are_named() {
        for (json, word) in [
            (r#"{"system":{"value":""}}"#, "system"),
            (r#"{"system":{"value":7}}"#, "system"),
            (r#"{"system":{"value":"a"},"max-jobs":{"value":-1}}"#, "max-jobs"),
            (r#"{"system":{"value":"a"},"extra-platforms":{"value":[1]}}"#, "extra-platforms"),
            (r"{}", "system"),
            ("", "EOF"),
        ] {
            let error = parse(json.as_bytes()).unwrap_err();
            assert!(error.contains(word), "{json}: {error}");
        }
    }

    #[tokio::test]
    async fn both_spellings_are_tried() {
        let (_dir, new) = fake(r#"[ "$3 $4 $5" = "config show --json" ] && cat json"#);
        assert_eq!(nix_config(&new).await.unwrap(), expected());
        let (_dir, old) = fake(
            r#"[ "$3 $4" = "show-config --json" ] && exec cat json; echo "no such command" >&2; exit 1"#,
        );
        assert_eq!(nix_config(&old).await.unwrap(), expected());
    }

    #[tokio::test]
    async fn failures_say_what_happened() {
        let (_dir, broken) = fake("echo 'error: syntax error in nix.conf' >&2; exit 1");
        let error = nix_config(&broken).await.unwrap_err().to_string();
        assert!(error.contains("syntax error in nix.conf"), "{error}");
        let (_dir, endless) = fake("exec cat /dev/zero");
        let error = nix_config(&endless).await.unwrap_err().to_string();
        assert!(error.contains("prints more than"), "{error}");
        let error = nix_config(Path::new("/no/such/nix")).await.unwrap_err().to_string();
        assert!(error.contains("/no/such/nix"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_nix_that_hangs_is_not_waited_for() {
        let (_dir, hanging) = fake("exec sleep 1000");
        let error = nix_config(&hanging).await.unwrap_err();
        assert!(matches!(error, NixConfigError::Timeout { .. }), "{error}");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&bytes);
        }
    }
}
