use super::*;
use crate::model::Emulation;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("/etc/roost/roost.toml")).map_err(|error| error.to_string())
}

#[test]
fn an_empty_file_is_a_workstation_that_offers_nothing() {
    let config = parse("").unwrap();
    assert_eq!(config, Config::default());
    assert!(config.workstation.enable);
    assert!(!config.board.enable);
}

#[test]
fn every_key_is_read() {
    let config = parse(
        r#"
        [node]
        id = "rock5-0a1b"
        name = "rock5"
        labels = ["fast", "ssd"]
        [board]
        enable = true
        slots = 4
        systems = ["aarch64-linux", "armv7l-linux"]
        features = ["big-parallel", "gccarch-armv8-a"]
        cores_per_build = 0
        speed = 0.25
        timeout_s = 10
        max_silent_s = 20
        port = 2222
        announce = false
        reload_sshd = ["true"]
        [workstation]
        enable = false
        substitute_on_boards = true
        build_here = false
        emulate_here = true
        away_timeout_s = 30
        max_jobs_per_line = 200
        [queue]
        max_jobs = 1
        done_age_s = 2
        max_done = 3
        log_mib = 4
        logs_total_mib = 5
        orphan_grace_s = 6
        output_grace_s = 7
        min_free_mib = 8
        [placement]
        emulation = "when-faster"
        native_wait_s = 9
        [placement.systems.riscv64-linux]
        emulation = "never"
        [admission]
        heat_margin_c = 10
        max_memory_pressure_percent = 11
        min_memory_mib = 12
        [[rule]]
        name = ["chromium*", "llvm-?"]
        system = "aarch64-linux"
        features = ["big-parallel"]
        prefer = ["fast"]
        require = ["rock5", "vf2"]
        avoid = ["pi4"]
        [[rule]]
        name = "hello"
        avoid = ["pi4"]
        "#,
    )
    .unwrap();
    let back = toml::to_string(&config).unwrap();
    assert_eq!(parse(&back).unwrap(), config);
    assert_eq!(config.rule.len(), 2);
    let given = serde_json::to_value(&config).unwrap();
    let defaults = serde_json::to_value(Config::default()).unwrap();
    for (section, keys) in defaults.as_object().unwrap() {
        for (key, default) in keys.as_object().unwrap() {
            assert_ne!(&given[section][key], default, "{section}.{key} kept its default");
        }
    }
}

#[test]
fn what_is_said_of_one_system_counts_before_what_is_said_of_all() {
    let config = parse(
        "[placement]\nnative_wait_s = 60\n[placement.systems.riscv64-linux]\nemulation = \"never\"\n",
    );
    let placement = config.unwrap().placement;
    assert_eq!(placement.emulation("riscv64-linux"), Emulation::Never);
    assert_eq!(placement.emulation("aarch64-linux"), Emulation::Fallback);
    assert_eq!(placement.native_wait_s("riscv64-linux"), Some(60));
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_valid_ones() {
    let error = parse("[board]\nenable = true\nslot = 4\n").unwrap_err();
    assert_eq!(
        error,
        "/etc/roost/roost.toml:3: unknown key `slot`, expected one of `enable`, `slots`, `systems`, \
         `features`, `cores_per_build`, `speed`, `timeout_s`, `max_silent_s`, `port`, `announce`, \
         `reload_sshd`\n  3 | slot = 4"
    );
    let error = parse("[boards]\nenable = true\n").unwrap_err();
    assert!(error.starts_with("/etc/roost/roost.toml:1: unknown key `boards`"), "{error}");
    assert!(
        error.contains("`node`, `board`, `workstation`, `queue`, `placement`, `admission`, `rule`"),
        "{error}"
    );
}

#[test]
fn a_value_of_the_wrong_type_or_range_is_shown_in_its_line() {
    for (text, line, words) in [
        ("[board]\nslots = 0", 2, "0 is out of range: expected 1 to 256"),
        ("[board]\nspeed = 0", 2, "0 is out of range: expected 0.01 to 1000"),
        ("[board]\nspeed = nan", 2, "NaN is out of range: expected 0.01 to 1000"),
        ("[board]\n\nslots = \"4\"", 3, "invalid type: string \"4\""),
        ("[board]\nport = 65536", 2, "65536 is out of range: expected 1 to 65535"),
        ("[board]\ntimeout_s = -1", 2, "-1 is out of range"),
        ("[workstation]\nmax_jobs_per_line = 201", 2, "expected 1 to 200"),
        (
            "[placement]\nemulation = \"always\"",
            2,
            "expected one of `never`, `fallback`, `when-faster`",
        ),
        ("[placement.systems.riscv64]\nemulation = \"never\"", 1, "\"riscv64\" is not valid here"),
        ("[admission]\nheat_margin_c = 51", 2, "expected 0 to 50"),
        ("[queue]\nmax_jobs = 99999999999999999999", 2, ""),
        ("[node]\nname = \"Rock 5\"", 2, "\"Rock 5\" is not valid here"),
        ("[node]\nid = \"\"", 2, "expected 1 to 63"),
        ("[node]\nlabels = [\"very fast\"]", 2, "\"very fast\" is not valid here"),
        ("[node]\nlabels = [\"a-label-of-more-than-32-bytes-is-long\"]", 2, "of 32 bytes at most"),
        ("[[rule]]\nname = \"\"\nprefer = [\"a\"]", 2, "expected a pattern of 1 to 256 bytes"),
        ("[[rule]]\nsystem = \"arm\"\nprefer = [\"a\"]", 2, "\"arm\" is not valid here"),
        ("[[rule]]\nname = \"a\"\navoid = [\"a b\"]", 3, "\"a b\" is not valid here"),
        ("[[rule]]\nname = \"a\"\nforbid = [\"a\"]", 3, "unknown key `forbid`, expected one of"),
        ("[board]\nsystems = []", 2, "builds nothing"),
        ("[board]\nsystems = [\"aarch64\"]", 2, "\"aarch64\" is not valid here"),
        ("[board]\nfeatures = [\"big parallel\"]", 2, "\"big parallel\" is not valid here"),
        ("[board]\nenable = yes", 2, ""),
        ("[board]\nenable = true\nenable = true", 3, "duplicate key"),
        ("[board", 1, ""),
    ] {
        let error = parse(text).unwrap_err();
        let place = format!("/etc/roost/roost.toml:{line}: ");
        assert!(error.starts_with(&place) && error.contains(words), "{text:?} gave {error}");
        let source = text.lines().nth(line - 1).unwrap();
        assert!(error.ends_with(&format!("{line} | {source}")), "{text:?} gave {error}");
    }
}

#[test]
fn a_missing_file_means_defaults_and_an_unreadable_one_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("absent.toml");
    assert_eq!(Config::load_or_default(&absent).unwrap(), Config::default());
    assert!(matches!(Config::load(&absent), Err(ConfigError::Read { .. })));
    // A folder can be opened and not read, whoever asks.
    assert!(matches!(Config::load_or_default(dir.path()), Err(ConfigError::Read { .. })));
    let latin1 = dir.path().join("latin1.toml");
    fs::write(&latin1, b"# caf\xe9\n").unwrap();
    assert!(matches!(Config::load_or_default(&latin1), Err(ConfigError::Read { .. })));
}

#[test]
fn slots_follow_from_cores_and_memory_unless_they_are_given() {
    let cores = |n| NonZeroU32::new(n).unwrap();
    let board = Board::default();
    assert_eq!(board.slots_for(cores(4), 8 * 1024), 2, "VisionFive 2");
    assert_eq!(board.slots_for(cores(8), 16 * 1024), 4, "ROCK 5B");
    assert_eq!(board.slots_for(cores(8), 4 * 1024), 2, "memory is the limit");
    assert_eq!(board.slots_for(cores(4), 512), 1, "never none");
    assert_eq!(board.cores_for(cores(8), 16 * 1024), 2);
    assert_eq!(board.cores_for(cores(8), 4 * 1024), 4);
    let board = Board { slots: Some(7), cores_per_build: Some(0), ..Board::default() };
    assert_eq!(board.slots_for(cores(2), 512), 7);
    assert_eq!(board.cores_for(cores(2), 512), 0);
}
