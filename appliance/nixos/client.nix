# A workstation: a machine whose users build on boards.
{ config, lib, options, pkgs, ... }:
let
  names = lib.importJSON ../names.json;
  cfg = config.services.roost.client;
  machines = "@${names.machines_file}";
  inherit (config.nix.settings) builders;

  # 32-bit programs of the same family, which the CPU itself may run.
  native = {
    aarch64-linux = [ "armv6l-linux" "armv7l-linux" ];
    x86_64-linux = [ "i686-linux" "x86_64-v1-linux" "x86_64-v2-linux" "x86_64-v3-linux" "x86_64-v4-linux" ];
  };
  own = pkgs.stdenv.hostPlatform.system;

  # Lix has another language for its build hook.
  asksRoost = config.services.roost.settings.workstation.build_here != false
    && !lib.hasPrefix "lix" (lib.getName config.nix.package);

  # What Nix would emulate by itself: it asks no board then.
  behindOurBack = lib.subtractLists ([ own ] ++ native.${own} or [ ])
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

    nix.distributedBuilds = lib.mkDefault true;
    nix.settings.builders = lib.mkIf config.nix.distributedBuilds ([
      machines
    ] ++ lib.optionals (config.nix.buildMachines != [ ]) [ ";" "@/etc/nix/machines" ]);

    # Nix up to 2.19 and Lix start a builder's program through bash.
    systemd.services.nix-daemon.path = [ pkgs.bash ];

    # Nix asks roost what to build by itself. Nix 2.25 to 2.33 do not read this setting in nix.conf.
    systemd.services.nix-daemon.environment = lib.mkIf asksRoost {
      NIX_CONFIG = lib.mkDefault "build-hook = ${lib.getExe config.services.roost.package} hook";
    };

    # Programs of other systems may be run here, and builds for them are placed by roost. NixOS
    # before 24.11 does not tell the two apart.
    boot = lib.optionalAttrs (options.boot.binfmt ? addEmulatedSystemsToNixSandbox) {
      binfmt.addEmulatedSystemsToNixSandbox = lib.mkDefault false;
    };

    warnings =
      lib.optional (behindOurBack != [ ]) ''
        services.roost.client: Nix emulates ${toString behindOurBack} on this machine whenever it has a
        slot free, and asks no board then. Remove them from nix.settings.extra-platforms, where
        boot.binfmt.emulatedSystems may have put them; services.roost.settings.workstation.emulate_here
        lets roost emulate them when there is no board.
      ''
      ++ lib.optional (!lib.hasInfix machines (toString builders)) ''
        services.roost.client: Nix does not know of the boards, and builds without them:
        nix.distributedBuilds is off, or nix.settings.builders lacks "${machines}".
      '';
  };
}
