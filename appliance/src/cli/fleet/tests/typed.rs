//! What can be typed.

use super::*;

fn parse(line: &str) -> Result<Command, ErrorKind> {
    Cli::try_parse_from(line.split_whitespace())
        .map(|cli| cli.command)
        .map_err(|error| error.kind())
}

#[test]
fn commands_are_told_apart() {
    let cases = [
        ("roost fleet init --json", Fleet::Init(JSON)),
        ("roost fleet list --tokens", Fleet::List(List { tokens: true, ..List::default() })),
        ("roost fleet token", Fleet::Token(token_args())),
        (
            "roost fleet token --valid 90min --for-board a,b",
            Fleet::Token(TokenArgs {
                content: Content {
                    valid: Duration::from_secs(5400),
                    for_board: Some("a,b".into()),
                    ..content()
                },
                ..token_args()
            }),
        ),
        ("roost fleet revoke rock5 -y", Fleet::Revoke { node: "rock5".into(), yes: true }),
        ("roost fleet rotate --finish --force", Fleet::Rotate { finish: true, force: true }),
        (
            "roost fleet invite - --name hydra --certificate",
            Fleet::Invite { file: "-".into(), name: Some("hydra".into()), certificate: true },
        ),
        ("roost fleet join", Fleet::Join { file: None, force: false }),
        ("roost fleet join x --force", Fleet::Join { file: Some("x".into()), force: true }),
    ];
    for (line, command) in cases {
        assert_eq!(parse(line), Ok(Command::Fleet(command)), "{line}");
    }
    let plain = seed_args("a.img".as_ref());
    let source = Source { from: Some("-".into()), ..plain.source.clone() };
    let from = SeedArgs { source, ..plain };
    assert_eq!(parse("roost seed a.img --from -"), Ok(Command::Seed(from)));
    let wifi =
        Content { wifi: Some("net".into()), wifi_passphrase_file: Some("-".into()), ..content() };
    let source = Source { content: wifi, ..seed_args("a.img".as_ref()).source };
    let wifi = SeedArgs { source, ..seed_args("a.img".as_ref()) };
    let line = "roost seed a.img --wifi net --wifi-passphrase-file -";
    assert_eq!(parse(line), Ok(Command::Seed(wifi)));
    assert_eq!(parse("roost first-boot"), Ok(Command::FirstBoot { from: None }));
    let print_ = "SHA256:uNiVztksCsDhcc0u9e8BrrJXVGDvrQXRVrvXfQyiq0g";
    let approve = Fleet::Approve { board: "a".into(), fingerprint: Some(print_.into()) };
    let line = format!("roost fleet approve a --fingerprint {print_}");
    assert_eq!(parse(&line), Ok(Command::Fleet(approve)));
}

#[test]
fn wrong_use_is_refused() {
    for (line, kind) in [
        ("roost fleet", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
        ("roost fleet list --tokens --revoked", ErrorKind::ArgumentConflict),
        ("roost fleet token --valid 59s", ErrorKind::ValueValidation),
        ("roost fleet token --valid 366days", ErrorKind::ValueValidation),
        ("roost fleet token --valid soon", ErrorKind::ValueValidation),
        ("roost fleet token --for-board é", ErrorKind::ValueValidation),
        ("roost fleet token --wifi net", ErrorKind::MissingRequiredArgument),
        ("roost fleet token --wifi-passphrase-file -", ErrorKind::MissingRequiredArgument),
        ("roost fleet token --withdraw a --valid 1h", ErrorKind::ArgumentConflict),
        ("roost fleet approve", ErrorKind::MissingRequiredArgument),
        ("roost fleet approve a --fingerprint SHA256:x", ErrorKind::ValueValidation),
        ("roost fleet rotate --force", ErrorKind::MissingRequiredArgument),
        ("roost fleet invite", ErrorKind::MissingRequiredArgument),
        ("roost fleet invite x --name A_b", ErrorKind::ValueValidation),
        ("roost fleet join --force", ErrorKind::MissingRequiredArgument),
        ("roost seed", ErrorKind::MissingRequiredArgument),
        ("roost seed a --from b --no-token", ErrorKind::ArgumentConflict),
        ("roost seed a --from b --hostname c", ErrorKind::ArgumentConflict),
    ] {
        assert_eq!(parse(line), Err(kind), "{line}");
    }
}
