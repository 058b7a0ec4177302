//! What a board's sshd lets in, with the packaged configuration: certificates of its fleet, for one user
//! and one command, and nothing else.

use roost_lab::{
    Host, Lan, Output, Result,
    fixtures::{
        fleet,
        ssh::{self, KEY},
        trust,
    },
};

/// A board of a fleet, and a client that may build there.
struct Door {
    _lan: Lan,
    ws: Host,
    board: Host,
    client: Host,
}

impl Door {
    fn open() -> Result<Self> {
        let lan = Lan::new()?;
        let [ws, board, client] = lan.start([
            fleet::workstation(&lan, "ws", "")?,
            // What is refused here is refused on purpose, and not to be answered more slowly.
            fleet::board(&lan, "board", 1, "")?.file(
                "/etc/ssh/sshd_config.d/10-patient.conf",
                0o644,
                "PerSourcePenalties no\n",
            ),
            lan.host("client"),
        ])?;
        fleet::join(&lan, &ws, &[&board])?;
        trust::admit(&client, &board)?;
        ssh::introduce(&client, &board)?;
        let door = Self { _lan: lan, ws, board, client };
        // What is refused below is refused for a reason: this is not.
        door.ssh("roost@board nix-store --serve </dev/null")?.ok()?;
        Ok(door)
    }

    fn ssh(&self, arguments: &str) -> Result<Output> {
        self.client.sh(&format!("ssh -o BatchMode=yes {arguments}"))
    }

    /// Sees that a login, or what it is for, is refused.
    fn refused(&self, arguments: &str) -> Result<Output> {
        let output = self.ssh(arguments)?;
        assert!(!output.success(), "{arguments} was let in: {output}");
        assert_eq!(output.stdout, "", "{arguments}");
        Ok(output)
    }

    /// Logs in with a certificate that a key of the machine's own choosing has signed.
    fn certified(&self, authority: &Host, options: &str) -> Result<Output> {
        let public = self.client.read(&format!("{KEY}.pub"))?;
        authority.write("/root/asked.pub", 0o644, public)?;
        authority.check(&format!(
            "rm -f /root/asked-cert.pub; ssh-keygen -q -s /var/lib/roost/fleet/ca -I test {options} \
             /root/asked.pub"
        ))?;
        let certificate = authority.read("/root/asked-cert.pub")?;
        self.client.write("/root/other/id", 0o600, self.client.read(KEY)?)?;
        self.client.write("/root/other/id-cert.pub", 0o644, certificate)?;
        self.ssh(
            "-F none -o HostKeyAlias=board -i /root/other/id -o IdentitiesOnly=yes \
             -o CertificateFile=/root/other/id-cert.pub roost@10.42.0.11 nix-store --serve </dev/null",
        )
    }
}

#[test]
fn a_certificate_is_good_for_the_forced_command_and_nothing_else() -> Result<()> {
    let door = Door::open()?;
    for command in ["", "sh", "id", "'nix-store --serve; id'", "scp -t /tmp", "/bin/sh -c id"] {
        let output = door.refused(&format!("roost@board {command} </dev/null"))?;
        assert!(output.stderr.contains("roost: "), "{command}: {output}");
    }
    // A terminal is not given, and what runs is the same.
    let output = door.ssh("-tt roost@board nix-store --serve </dev/null")?;
    assert!(output.stderr.contains("PTY allocation request failed"), "{output}");
    // What a client sets does not arrive: the program's own log would be louder.
    door.ssh("-o SetEnv='ROOST_LOG=trace LD_PRELOAD=/x SSH_USER_AUTH=/etc/passwd' roost@board nix-store --serve </dev/null")?.ok()?;
    let rc = door.board.check("printf 'touch /tmp/rc\\n' >/var/lib/roost/.ssh-rc; ls /tmp")?;
    assert!(!rc.contains("rc\n"), "{rc}");
    Ok(())
}

#[test]
fn nothing_is_forwarded_and_no_files_are_served() -> Result<()> {
    let door = Door::open()?;
    door.client.check("echo | sftp -b - roost@board 2>&1 && exit 1 || exit 0")?;
    // Each way through the board would answer with the greeting of its sshd.
    for way in [
        "-W 127.0.0.1:22",
        "-W 10.42.0.10:22",
        "-N -o ExitOnForwardFailure=yes -R 4000:127.0.0.1:22",
    ] {
        let output = door
            .client
            .sh(&format!("timeout 5 ssh -o BatchMode=yes {way} roost@board </dev/null"))?;
        assert!(!output.success() && output.stdout.is_empty(), "{way}: {output}");
    }
    let agent = door.ssh("-A roost@board nix-store --serve </dev/null")?;
    assert!(agent.success(), "{agent}");
    let display = door.client.sh(
        "DISPLAY=:9 ssh -o BatchMode=yes -o ForwardX11Trusted=yes -X roost@board nix-store --serve \
         </dev/null",
    )?;
    assert!(display.stderr.contains("X11 forwarding request failed"), "{display}");
    let left = door.board.check("ls -d /tmp/ssh-* 2>/dev/null || true")?;
    assert_eq!(left, "", "an agent was forwarded");
    Ok(())
}

#[test]
fn another_user_another_key_and_passwords_are_refused() -> Result<()> {
    let door = Door::open()?;
    for user in ["root", "builder", "nixbld1", "nobody"] {
        let output = door.refused(&format!("{user}@board id </dev/null"))?;
        assert!(output.stderr.contains("Permission denied"), "{user}: {output}");
    }
    // The same key, without its certificate; and one that somebody has put where keys were once read.
    let public = door.client.read(&format!("{KEY}.pub"))?;
    door.client.write("/root/plain/id", 0o600, door.client.read(KEY)?)?;
    for place in [
        "/etc/roost/authorized_keys",
        "/var/lib/roost/.ssh/authorized_keys",
        "/etc/ssh/authorized_keys.d/roost",
    ] {
        door.board.write(place, 0o644, public.clone())?;
    }
    let plain = "-F none -o HostKeyAlias=board -i /root/plain/id -o IdentitiesOnly=yes";
    let output = door.refused(&format!("{plain} roost@10.42.0.11 nix-store --serve </dev/null"))?;
    assert!(output.stderr.contains("Permission denied (publickey)"), "{output}");
    let password =
        "-o PubkeyAuthentication=no -o PreferredAuthentications=password,keyboard-interactive";
    let output = door.refused(&format!("{password} roost@board nix-store --serve </dev/null"))?;
    assert!(output.stderr.contains("Permission denied (publickey)"), "{output}");
    Ok(())
}

#[test]
fn certificates_that_are_not_as_they_should_be_are_refused() -> Result<()> {
    let door = Door::open()?;
    door.certified(&door.ws, "-n roost -V always:forever")?.ok()?;
    let stranger = fleet::workstation(&door._lan, "stranger", "")?.start()?;
    trust::found(&stranger)?;
    for (authority, options, what) in [
        (&stranger, "-n roost", "of another fleet"),
        (&door.ws, "-n roost -V 20200101:20200102", "expired"),
        (&door.ws, "-n roost -V 20990101:20990102", "not yet valid"),
        (&door.ws, "-n root", "for another user"),
        (&door.ws, "-n somebody", "for nobody here"),
        (&door.ws, "", "for anybody"),
        (&door.ws, "-h -n roost", "for a host"),
        (&door.ws, "-n roost -O source-address=192.0.2.1", "for another address"),
    ] {
        let output = door.certified(authority, options)?;
        assert!(!output.success(), "{what} was let in: {output}");
        assert!(output.stderr.contains("Permission denied (publickey)"), "{what}: {output}");
    }
    // A certificate's own command does not come in place of the board's.
    let output = door.certified(&door.ws, "-n roost -O force-command=id")?;
    assert!(!output.stdout.contains("uid="), "{output}");
    door.ws.check("roost fleet revoke stock-client --yes")?;
    door._lan.wait_until(std::time::Duration::from_secs(10), "it is refused", || {
        door.certified(&door.ws, "-n roost").is_ok_and(|output| !output.success())
    })
}
