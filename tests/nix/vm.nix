# A workstation and two boards as virtual machines on one network: the modules as people use them, with
# NixOS's own Avahi, sshd, D-Bus and Nix.
{ lib, nixosModules, nixpkgs, pkgs }:
let
  nixos = import "${nixpkgs}/nixos/lib" { inherit lib; };

  common = {
    # What is built here is built from nothing but a shell.
    nix.settings = {
      min-free = 0;
      substituters = lib.mkForce [ ];
    };
    services.roost.settings.queue.min_free_mib = 64;
    virtualisation = {
      diskSize = 2048;
      memorySize = 1024;
      writableStoreUseTmpfs = false;
    };
  };

  board = {
    imports = [ nixosModules.board common ];
    services.roost.board.enable = true;
    services.roost.settings.board.slots = 2;
  };

  # Needs nothing but the shell that is in every sandbox.
  expression = name: {
    text = ''
      derivation {
        name = "${name}";
        system = builtins.currentSystem;
        builder = "/bin/sh";
        args = [ "-c" "echo built > $out" ];
      }
    '';
  };
in
nixos.runTest {
  name = "roost";
  hostPkgs = pkgs;

  nodes = {
    workstation = {
      imports = [ nixosModules.client common ];
      services.roost.client.enable = true;
      services.roost.settings.workstation.away_timeout_s = 5;
      environment.etc = lib.listToAttrs (map
        (name: lib.nameValuePair "${name}.nix" (expression name))
        [ "nobody" "first" "second" "third" ]);
    };
    inherit board;
    other = board;
  };

  testScript = ''
    import json

    boards = {"board": board, "other": other}

    def reach(name):
        shown = json.loads(workstation.succeed("roost status --json"))["boards"]
        found = [it["reach"] for it in shown if it["node"]["name"] == name]
        return found[0] if found else None

    def built(name):
        return f"timeout 120 nix-build --no-out-link --max-jobs 0 /etc/{name}.nix"

    def jobs(machine):
        return machine.succeed("roost jobs --all --json")

    start_all()
    for machine in machines:
        machine.wait_for_unit("multi-user.target")
        machine.wait_for_unit("roost.service")

    with subtest("a board's configuration is as sshd wants it"):
        board.succeed("sshd -T -C user=roost,host=localhost,addr=127.0.0.1 | grep -q 'forcecommand .*roost serve'")
        board.succeed("test -s /etc/ssh/ssh_host_ed25519_key")

    with subtest("a machine without a fleet has nothing to build on"):
        workstation.fail(built("nobody"))

    with subtest("boards that were given a seed are up by themselves"):
        workstation.succeed("roost fleet init")
        for name, machine in boards.items():
            seed = workstation.succeed("roost fleet token")
            machine.succeed(f"umask 077; cat > /root/seed.toml <<'END'\n{seed}\nEND")
            machine.succeed("roost fleet join - < /root/seed.toml && rm /root/seed.toml")
        for name in boards:
            retry(lambda last, name=name: reach(name) == "up", 120)

    with subtest("what the workstation may not build is built on a board"):
        path = workstation.succeed(built("first")).strip()
        workstation.succeed(f"grep -qx built {path}")
        assert any("first" in jobs(machine) for machine in boards.values()), "no board knows of it"

    with subtest("the machines are in order by their own judgement"):
        workstation.succeed("roost doctor")
        board.succeed("roost doctor")

    with subtest("a board that was sent away is given nothing"):
        workstation.succeed("roost fleet revoke --yes board")
        retry(lambda last: reach("board") != "up", 60)
        workstation.succeed(built("second"))
        assert "second" in jobs(other), "the board that is left has not built it"
        assert "second" not in jobs(board), "the board that was sent away has built it"

    with subtest("with no board left, a build fails and says so"):
        other.shutdown()
        said = workstation.fail(built("third") + " 2>&1")
        assert "other" in said, said
  '';
}
