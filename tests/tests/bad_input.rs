//! Clients that say what makes no sense, through real ssh: each hears what was wrong, and nobody
//! else notices.

use std::time::Duration;

use roost_lab::{
    Host, Lan, Output, Result,
    fixtures::{fleet, nix, steered},
};

/// For whatever should take a few seconds, on a busy machine.
const SOON: Duration = Duration::from_secs(60);
/// How long a client may be left without an answer to what makes no sense.
const AT_ONCE: Duration = Duration::from_secs(20);

/// Numbers as Nix's protocols have them: 64 bits, little-endian.
fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

const WORKER_MAGIC: u64 = 0x6e69_7863;
const SERVE_MAGIC: u64 = 0x390c_9deb;
/// Longer than any disk.
const ENDLESS: u64 = 1 << 60;

/// A greeting of the worker protocol 1.37, and what follows it.
fn worker(then: &[u64]) -> Vec<u8> {
    let greeting = words(&[WORKER_MAGIC, 0x125, 0, 0]);
    [greeting, words(then)].concat()
}

/// A greeting of the serve protocol 2.7, and what follows it.
fn serve(then: &[u64]) -> Vec<u8> {
    [words(&[SERVE_MAGIC, 0x207]), words(then)].concat()
}

/// A board that is at work for one client, whose jobs nothing may disturb, and another client.
struct Disturbed {
    client: Host,
    board: Host,
    build: roost_lab::Running,
}

impl Disturbed {
    fn start() -> Result<Self> {
        let lan = Lan::new()?;
        let [client, board] =
            lan.start([lan.host("client"), fleet::board(&lan, "board", 1, "")?])?;
        fleet::open_to(&client, &board)?;
        nix::write(&client, "/root/a.nix", &steered::drv("a", fleet::SYSTEM).expr())?;
        let store = ["--store", "ssh-ng://roost@board", "--no-out-link", "/root/a.nix"];
        let build = client.command(["nix-build"].into_iter().chain(store)).spawn()?;
        steered::wait_started(&lan, &board, "a", 1)?;
        Ok(Self { client, board, build })
    }

    /// What the board says to a client that asks for a command and says something.
    fn say(&self, command: &str, input: Vec<u8>) -> Result<Output> {
        let ssh = self.client.command(["ssh", "-T", "roost@board", command]);
        ssh.stdin(input).timeout(AT_ONCE).run()
    }

    /// Sees that the client is told, with a failure, what was wrong.
    fn refused(&self, command: &str, input: Vec<u8>, expected: &str) -> Result<()> {
        let output = self.say(command, input)?;
        assert!(!output.success(), "{output}");
        assert!(output.stderr.contains("roost: "), "{output}");
        assert!(output.stderr.contains(expected), "expected {expected:?}: {output}");
        Ok(())
    }

    /// Sees that the build was not disturbed, nor the daemon.
    fn finish(mut self) -> Result<()> {
        assert!(self.build.ended().is_none(), "the build goes on");
        steered::release_all(&self.board)?;
        let output = self.build.wait(SOON)?.ok()?;
        assert_eq!(self.board.read(output.stdout.trim())?, "a\n");
        assert_eq!(steered::starts(&self.board, "a")?, 1);
        let log = self.board.service_log(roost_lab::Service::ROOST);
        assert!(!log.contains("panicked"), "{log}");
        Ok(())
    }
}

#[test]
fn nonsense_in_the_worker_protocol_is_refused_with_the_reason() -> Result<()> {
    let board = Disturbed::start()?;
    for command in ["nix-daemon --stdio", "roost peer worker"] {
        for (input, expected) in [
            (words(&[0x1234_5678, 0x125]), "does not speak Nix's worker protocol"),
            (words(&[WORKER_MAGIC, 0x10a, 0, 0]), "worker protocol 1.10, and at least 1.35"),
            (worker(&[u64::MAX; 8]), "operation 18446744073709551615 is not known"),
            (worker(&[1, ENDLESS]), "too long: 1152921504606846976"),
            (worker(&[31, ENDLESS]), "too long: 1152921504606846976"),
            (worker(&[9999]), "operation 9999 is not known"),
        ] {
            board.refused(command, input, expected)?;
        }
    }
    board.finish()
}

#[test]
fn nonsense_in_the_serve_protocol_is_refused_with_the_reason() -> Result<()> {
    let board = Disturbed::start()?;
    for (input, expected) in [
        (words(&[0x1234_5678, 0x207]), "does not speak Nix's serve protocol"),
        (words(&[SERVE_MAGIC, 0x101]), "serve protocol 1.1, and at least 2.5"),
        (serve(&[u64::MAX; 8]), "operation 18446744073709551615 is not known"),
        (serve(&[1, 0, 0, ENDLESS]), "too long: 1152921504606846976"),
        (serve(&[3, ENDLESS]), "too long: 1152921504606846976"),
        (serve(&[9999]), "operation 9999 is not known"),
    ] {
        board.refused("nix-store --serve --write", input, expected)?;
    }
    board.finish()
}

#[test]
fn other_commands_and_nonsense_between_nodes_are_refused_with_the_reason() -> Result<()> {
    let board = Disturbed::start()?;
    board.refused("cat /etc/passwd", Vec::new(), "\"cat /etc/passwd\" is not run for you")?;
    board.refused("roost peer control", b"{\"what\": 1}\n".to_vec(), "not a request")?;
    board.refused("roost peer control", vec![b'x'; 100_000], "longer than 4096 bytes")?;
    board.finish()
}

#[test]
fn nonsense_at_the_door_is_refused_with_the_reason() -> Result<()> {
    let board = Disturbed::start()?;
    let door = |user: &str, bytes: &[u8]| {
        let command = ["socat", "-t", "5", "-", "UNIX-CONNECT:/run/roost/daemon.sock"];
        board.board.command(command).user(user).stdin(bytes).timeout(AT_ONCE).run()
    };
    let no_hello = [&words(&[ENDLESS])[..], b"\x05\0\0\0hello", b"\x02\0\0\0{}"];
    for bytes in no_hello {
        let output = door("roost", bytes)?;
        assert!(output.stdout.contains("the hello is not one"), "{output}");
    }
    // Another user does not even get in.
    let output = door("builder", b"\x05\0\0\0hello")?;
    assert!(output.stderr.contains("Permission denied"), "{output}");
    board.finish()
}

#[test]
fn nonsense_from_a_build_hook_is_refused_in_the_words_of_nixs_log() -> Result<()> {
    let board = Disturbed::start()?;
    let connect = "cat | roost connect --selector some-line | cat; exit ${PIPESTATUS[1]}";
    for (input, expected) in [
        (words(&[0x1234_5678, 0x125]), "does not speak Nix's worker protocol"),
        (worker(&[9999]), "operation 9999 is not known"),
        (worker(&[1, ENDLESS]), "too long: 1152921504606846976"),
    ] {
        let command = board.board.command(["bash", "-c", connect]).stdin(input);
        let output = command.timeout(AT_ONCE).run()?;
        assert!(!output.success(), "{output}");
        assert!(output.stderr.starts_with("@nix {\"action\":\"msg\""), "{output}");
        assert!(output.stderr.contains(expected), "expected {expected:?}: {output}");
    }
    board.finish()
}
