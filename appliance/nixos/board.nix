# A board: a machine that builds for others.
{ config, lib, ... }:
let
  names = lib.importJSON ../names.json;
  cfg = config.services.roost.board;
  etcDir = lib.removePrefix "/etc/" (dirOf names.config_file);
in
{
  imports = [ ./common.nix ];

  options.services.roost.board = {
    enable = lib.mkEnableOption "building for the workstations on the local network";

    authorizedKeys = lib.mkOption {
      type = lib.types.listOf lib.types.singleLineStr;
      default = [ ];
      example = [ "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI... root@desk" ];
      description = ''
        SSH public keys that may build here. Who may build can put any path into this machine's
        store: list only keys that trust each other.
      '';
    };
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

    # A copy and not a link into the store: sshd refuses a file in a folder that a group may write.
    environment.etc."${etcDir}/authorized_keys" = lib.mkIf (cfg.authorizedKeys != [ ]) {
      text = lib.concatLines cfg.authorizedKeys;
      mode = "0444";
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
