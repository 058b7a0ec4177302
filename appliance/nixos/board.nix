# A board: a machine that builds for others.
{ config, lib, ... }:
let
  cfg = config.services.roost.board;
in
{
  imports = [ ./common.nix ];

  options.services.roost.board = {
    enable = lib.mkEnableOption "building for the workstations on the local network";
  };

  config = lib.mkIf cfg.enable {
    services.roost = {
      enable = true;
      settings.board = {
        enable = true;
        port = lib.mkDefault (lib.head config.services.openssh.ports);
      };
      settings.workstation.enable = lib.mkDefault false;
    };

    systemd.services.roost-first-boot.wantedBy = [ "multi-user.target" ];

    services.avahi.publish = {
      enable = true;
      addresses = lib.mkDefault true;
      userServices = true;
    };

    services.openssh = {
      enable = true;
      # Before whatever ends in a Match block, which would make this a part of it.
      extraConfig = lib.mkBefore ''
        Include ${config.services.roost.package}/etc/ssh/sshd_config.d/50-roost.conf
      '';
    };

    nix.settings = {
      # What a build is sealed from elsewhere, it is sealed from here.
      sandbox-fallback = lib.mkDefault false;
      # Make room when the disk fills up, rather than fail builds.
      min-free = lib.mkDefault (2 * 1024 * 1024 * 1024);
      max-free = lib.mkDefault (8 * 1024 * 1024 * 1024);
    };

    warnings = lib.optional (config.boot.binfmt.emulatedSystems != [ ]) ''
      services.roost.board: this board emulates ${toString config.boot.binfmt.emulatedSystems}; a
      native board of the fleet is always preferred for them.
    '';
  };
}
