# A workstation: a machine whose users build on boards.
{ config, lib, pkgs, ... }:
let
  names = lib.importJSON ../names.json;
  cfg = config.services.roost.client;
in
{
  imports = [ ./common.nix ];

  options.services.roost.client = {
    enable = lib.mkEnableOption "building on the boards of the local network";

    knownHosts = lib.mkOption {
      type = lib.types.listOf lib.types.singleLineStr;
      default = [ ];
      example = [ "rock5.local ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI..." ];
      description = ''
        Host keys of the boards that may be used, as lines of an SSH known-hosts file. If there are
        none, {file}`${names.known_hosts_file}` is left to its owner.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    services.roost = {
      enable = true;
      settings.workstation.enable = true;
    };

    environment.etc.${lib.removePrefix "/etc/" names.known_hosts_file} =
      lib.mkIf (cfg.knownHosts != [ ]) { text = lib.concatLines cfg.knownHosts; };

    nix.distributedBuilds = true;
    nix.settings.builders = [
      "@${names.machines_file}"
    ] ++ lib.optionals (config.nix.buildMachines != [ ]) [ ";" "@/etc/nix/machines" ];

    # Nix up to 2.19 and Lix start a builder's program through bash.
    systemd.services.nix-daemon.path = [ pkgs.bash ];

    warnings =
      lib.optional
        (
          config.boot.binfmt.emulatedSystems != [ ]
          && (config.boot.binfmt.addEmulatedSystemsToNixSandbox or true)
        )
        ''
          services.roost.client: Nix emulates ${toString config.boot.binfmt.emulatedSystems} on this
          machine whenever it has a slot free, and asks no board then. Set
          boot.binfmt.addEmulatedSystemsToNixSandbox to false.
        '';
  };
}
