# A workstation: a machine whose users build on boards.
{ config, lib, options, pkgs, ... }:
let
  names = lib.importJSON ../names.json;
  cfg = config.services.roost.client;

  # What Nix would emulate by itself: it asks no board then.
  behindOurBack =
    lib.intersectLists config.boot.binfmt.emulatedSystems
      (config.nix.settings.extra-platforms or [ ]);
in
{
  imports = [ ./common.nix ];

  options.services.roost.client = {
    enable = lib.mkEnableOption "building on the boards of the local network";
  };

  config = lib.mkIf cfg.enable {
    services.roost = {
      enable = true;
      settings.workstation.enable = true;
    };

    nix.distributedBuilds = true;
    nix.settings.builders = [
      "@${names.machines_file}"
    ] ++ lib.optionals (config.nix.buildMachines != [ ]) [ ";" "@/etc/nix/machines" ];

    # Nix up to 2.19 and Lix start a builder's program through bash.
    systemd.services.nix-daemon.path = [ pkgs.bash ];

    # Programs of other systems may be run here, and builds for them are placed by roost. NixOS
    # before 24.11 does not tell the two apart.
    boot = lib.optionalAttrs (options.boot.binfmt ? addEmulatedSystemsToNixSandbox) {
      binfmt.addEmulatedSystemsToNixSandbox = lib.mkDefault false;
    };

    warnings = lib.optional (behindOurBack != [ ]) ''
      services.roost.client: Nix emulates ${toString behindOurBack} on this machine whenever it has a
      slot free, and asks no board then. Remove them from nix.settings.extra-platforms, where
      boot.binfmt.emulatedSystems may have put them; services.roost.settings.workstation.emulate_here
      lets roost emulate them when there is no board.
    '';
  };
}
