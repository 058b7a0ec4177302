# What the modules make of small configurations: by name of a case, a list of what is not as expected.
# Evaluated for one system, whichever evaluates: an ARM64 machine, which may run 32-bit programs, too.
{ lib, nixosSystem }:
let
  names = lib.importJSON ../../appliance/names.json;
  board = { imports = [ ../../appliance/nixos/board.nix ]; services.roost.board.enable = true; };
  client = { imports = [ ../../appliance/nixos/client.nix ]; services.roost.client.enable = true; };
  set = settings: { services.roost = { inherit settings; }; };

  given = modules: expected:
    let
      evaluated = nixosSystem (modules ++ [
        ../../appliance/nixos/example.nix
        { nixpkgs.hostPlatform = "aarch64-linux"; }
      ]);
      judged = lib.mapAttrsToList
        (what: wrong: if wrong == null then null else "${what}: ${wrong}")
        (expected evaluated.config evaluated.options);
    in
    lib.filter (wrong: wrong != null) judged;

  show = lib.generators.toPretty { multiline = false; };
  is = want: got: if got == want then null else "wanted ${show want}, got ${show got}";
  has = part: whole:
    if (if lib.isList whole then lib.elem else lib.hasInfix) part whole then
    null
    else
    "wanted ${show part} in ${show whole}";
  lacks = part: whole: if has part whole == null then "wanted no ${show part} in ${show whole}" else null;

  # What people are told.
  ours = lib.filter (lib.hasInfix "services.roost");
  told = config: ours config.warnings;
  refused = config: map (it: it.message) (lib.filter (it: !it.assertion) config.assertions);
  one = part: messages:
    if lib.length messages == 1 then has part (lib.head messages) else is [ "… ${part} …" ] messages;

  # Files, as text.
  nixConf = config: "\n" + config.environment.etc."nix/nix.conf".source.text;
  roostToml = config: config.environment.etc."roost/roost.toml".source.settings;
  unit = config: name: config.systemd.units.${name}.text;
  fstab = config: config.environment.etc.fstab.text;
  onPath = config: name: map lib.getName config.systemd.services.${name}.path;
in
{
  board-is-quiet = given [ board ] (config: _: {
    warnings = is [ ] (told config);
    assertions = is [ ] (refused config);
  });

  board-leaves-builds-to-roost = given [ board ] (config: _:
    let
      conf = nixConf config;
    in
    {
      builders = has "\nbuilders = \n" conf;
      max-jobs = has "\nmax-jobs = 1\n" conf;
      sandbox = has "\nsandbox = true\n" conf;
      sandbox-fallback = has "\nsandbox-fallback = false\n" conf;
      trusted-users = has "\ntrusted-users = root\n" conf;
      # Above the 4096 MiB that this machine wants free for a build to begin.
      min-free = has "\nmin-free = 8589934592\n" conf;
      power-cuts = has "\nsync-before-registering = true\n" conf;
      max-free = has "\nmax-free = 17179869184\n" conf;
      extra-platforms = lacks "extra-platforms" conf;
      build-dir = lacks "build-dir" conf;
      auto-optimise-store = has "\nauto-optimise-store = false\n" conf;
      # The most that is offered: roost leaves out of it what is not true of the machine.
      kvm = has "kvm" config.nix.settings.system-features;
      big-parallel = has "big-parallel" config.nix.settings.system-features;
      emulated = is [ ] config.boot.binfmt.emulatedSystems;
      gc = is false config.nix.gc.automatic;
      optimise = is false config.nix.optimise.automatic;
    });

  board-is-found-and-reached = given [ board ] (config: _: {
    publishing = is true config.services.avahi.publish.enable;
    user-services = is true config.services.avahi.publish.userServices;
    addresses = is true config.services.avahi.publish.addresses;
    host-name = is "" config.services.avahi.hostName;
    ipv6 = is true config.services.avahi.ipv6;
    interfaces = is null config.services.avahi.allowInterfaces;
    cache = is 16384 config.services.avahi.cacheEntriesMax;
    mdns = has 5353 config.networking.firewall.allowedUDPPorts;
    ssh = has 22 config.networking.firewall.allowedTCPPorts;
    host-keys = is [ names.ssh_host_key ] (map (key: key.path) config.services.openssh.hostKeys);
    drop-in = has "/etc/ssh/sshd_config.d/50-roost.conf" config.services.openssh.extraConfig;
    port = is 22 (roostToml config).board.port;
  });

  board-lasts = given [ board ] (config: options: {
    zram = is true config.zramSwap.enable;
    time = is true config.services.timesyncd.enable;
    journal = is true (
      if options.services.journald ? settings then
        config.services.journald.settings.Journal.SystemMaxUse == "64M"
      else
        lib.hasInfix "SystemMaxUse=64M" config.services.journald.extraConfig
    );
    watchdog = is "30s" (
      if options.systemd ? settings then
        config.systemd.settings.Manager.RuntimeWatchdogSec
      else
        config.systemd.watchdog.runtimeTime
    );
  });

  board-starts-its-services = given [ board ] (config: _: {
    roost = has "multi-user.target" config.systemd.services.roost.wantedBy;
    first-boot = has "multi-user.target" config.systemd.services.roost-first-boot.wantedBy;
    first-boot-once = has "X-RestartIfChanged=false" (unit config "roost-first-boot.service");
    # Stopped and started, it would leave Nix without builders in between.
    roost-restarts = has "X-StopIfChanged=false" (unit config "roost.service");
    no-emulation = is [ ] config.systemd.sockets.roost-emulation.wantedBy;
    ssh = has "openssh" (onPath config "roost");
    shell = is "/bin/sh" config.users.users.${names.user}.shell;
  });

  board-keeps-what-is-set = given
    [
      board
      {
        nix.settings = { max-jobs = 3; min-free = 1000; };
        services.openssh.ports = [ 2222 ];
        services.openssh.hostKeys = [
          { path = "/etc/ssh/ssh_host_rsa_key"; type = "rsa"; }
          { path = names.ssh_host_key; type = "ed25519"; }
        ];
        zramSwap.enable = false;
      }
    ]
    (config: _: {
      assertions = is [ ] (refused config);
      max-jobs = has "\nmax-jobs = 3\n" (nixConf config);
      min-free = has "\nmin-free = 1000\n" (nixConf config);
      port = is 2222 (roostToml config).board.port;
      ssh = has 2222 config.networking.firewall.allowedTCPPorts;
      host-keys = is 2 (lib.length config.services.openssh.hostKeys);
      zram = is false config.zramSwap.enable;
    });

  board-has-a-build-user-for-each-slot = given [ board (set { board.slots = 64; }) ] (config: _: {
    users = is 72 config.nix.nrBuildUsers;
    group = is 72 (lib.length config.users.groups.nixbld.members);
  });

  board-with-few-slots-has-nixos-number-of-build-users = given [ board (set { board.slots = 4; }) ]
    (config: _: { users = is 32 config.nix.nrBuildUsers; });

  board-with-sshd-by-socket-reloads-nothing = given
    [ board { services.openssh.startWhenNeeded = true; } ]
    (config: _: { reload = is [ ] (roostToml config).board.reload_sshd; });

  board-with-a-state-device = given
    [ board { services.roost.board.stateDevice = "/dev/nvme0n1p1"; } ]
    (config: _: {
      mount = has "/dev/nvme0n1p1 ${names.state_dir} ext4 " (fstab config);
      made-if-empty = has "x-systemd.makefs" (fstab config);
      boots-without = has "nofail" (fstab config);
      before-its-folders-are-made =
        has "x-systemd.before=systemd-tmpfiles-setup.service" (fstab config);
      roost-waits = has "RequiresMountsFor=${names.state_dir}" (unit config "roost.service");
      folder = has "d ${names.builds_dir} 0755 root root -" config.systemd.tmpfiles.rules;
    });

  board-with-a-state-device-builds-on-it =
    let
      on = version: given [
        board
        ({ pkgs, ... }: {
          services.roost.board.stateDevice = "/dev/nvme0n1p1";
          nix.package = pkgs.nix // { inherit version; };
        })
      ];
    in
    on "2.24.9"
      (config: _: {
        build-dir = has "\nbuild-dir = ${names.builds_dir}\n" (nixConf config);
        environment = lacks "TMPDIR" (unit config "nix-daemon.service");
      })
    ++ on "2.18.5" (config: _: {
      build-dir = lacks "build-dir" (nixConf config);
      environment = has "TMPDIR=${names.builds_dir}" (unit config "nix-daemon.service");
    });

  board-that-locks-roost-out-is-refused = given
    [ board { services.openssh.settings.AllowUsers = [ "admin" ]; } ]
    (config: _: { message = one "AllowUsers" (refused config); });

  board-that-names-roost-is-not-refused = given
    [ board { services.openssh.settings.AllowUsers = [ "admin" names.user ]; } ]
    (config: _: { assertions = is [ ] (refused config); });

  board-that-denies-roosts-group-is-refused = given
    [ board { services.openssh.settings.DenyGroups = [ names.group ]; } ]
    (config: _: { message = one "DenyGroups" (refused config); });

  board-without-its-host-key-is-refused = given
    [ board { services.openssh.hostKeys = [{ path = "/etc/ssh/ssh_host_rsa_key"; type = "rsa"; }]; } ]
    (config: _: { message = one names.ssh_host_key (refused config); });

  board-without-a-sandbox-is-warned-of = given
    [ board { nix.settings.sandbox = false; } ]
    (config: _: { warning = one "sandbox is off" (told config); });

  board-without-a-clock-is-warned-of = given
    [ board { services.timesyncd.enable = false; } ]
    (config: _: { warning = one "time service" (told config); });

  board-that-emulates-is-warned-of = given
    [ board { boot.binfmt.emulatedSystems = [ "riscv64-linux" ]; } ]
    (config: _: { warning = one "emulates riscv64-linux" (told config); });

  client-asks-boards = given [ client ] (config: _: {
    warnings = is [ ] (told config);
    assertions = is [ ] (refused config);
    builders = has "\nbuilders = @${names.machines_file}\n" (nixConf config);
    bash = is true (lib.any (lib.hasPrefix "bash") (onPath config "nix-daemon"));
    extra-platforms = lacks "extra-platforms" (nixConf config);
    max-jobs = has "\nmax-jobs = auto\n" (nixConf config);
    ssh-server = is false config.services.openssh.enable;
    settings = is { workstation.enable = true; queue.min_free_mib = 4096; } (roostToml config);
    roost-restarts = has "X-StopIfChanged=false" (unit config "roost.service");
  });

  client-has-nix-ask-what-to-build-by-itself = given [ client ] (config: _: {
    setting = has "NIX_CONFIG=build-hook = /nix/store/" (unit config "nix-daemon.service");
    program = has "/bin/roost hook\"" (unit config "nix-daemon.service");
  });

  client-that-builds-nothing-by-itself-leaves-the-hook-alone = given
    [ client (set { workstation.build_here = false; }) ]
    (config: _: { hook = lacks "build-hook" (unit config "nix-daemon.service"); });

  client-with-lix-leaves-the-hook-alone = given
    [ client ({ pkgs, ... }: { nix.package = pkgs.nix // { pname = "lix"; }; }) ]
    (config: _: { hook = lacks "build-hook" (unit config "nix-daemon.service"); });

  client-with-settings-in-the-environment-keeps-them = given
    [ client { systemd.services.nix-daemon.environment.NIX_CONFIG = "cores = 3"; } ]
    (config: _: { settings = has "NIX_CONFIG=cores = 3" (unit config "nix-daemon.service"); });

  client-keeps-other-builders = given
    [ client { nix.buildMachines = [{ hostName = "big"; systems = [ "x86_64-linux" ]; }]; } ]
    (config: _: {
      warnings = is [ ] (told config);
      builders = has "\nbuilders = @${names.machines_file} ; @/etc/nix/machines\n" (nixConf config);
    });

  client-that-runs-foreign-programs-has-nix-ask-boards = given
    [ client { boot.binfmt.emulatedSystems = [ "riscv64-linux" ]; } ]
    (config: options:
      if options.boot.binfmt ? addEmulatedSystemsToNixSandbox then {
        warnings = is [ ] (told config);
        extra-platforms = lacks "riscv64-linux" (nixConf config);
      } else {
        # This release of NixOS cannot be told to.
        warning = one "Nix emulates riscv64-linux" (told config);
      });

  client-that-emulates-by-itself-is-warned-of = given
    [ client { nix.settings.extra-platforms = [ "armv7l-linux" "riscv64-linux" ]; } ]
    (config: _: { warning = one "Nix emulates riscv64-linux on" (told config); });

  client-without-distributed-builds-is-warned-of = given
    [ client { nix.distributedBuilds = false; } ]
    (config: _: { warning = one "builds without them" (told config); });

  client-whose-builders-are-overridden-is-warned-of = given
    [ client { nix.settings.builders = lib.mkForce "@/etc/nix/machines"; } ]
    (config: _: { warning = one "builds without them" (told config); });

  client-that-emulates-through-roost = given
    [ client (set { workstation.emulate_here = true; }) ]
    (config: _: {
      socket = is [ "sockets.target" ] config.systemd.sockets.roost-emulation.wantedBy;
      settings = is true (roostToml config).workstation.emulate_here;
    });

  both-at-once = given [ board client ] (config: _: {
    warnings = is [ ] (told config);
    assertions = is [ ] (refused config);
    # Local builds are Nix's own as before.
    max-jobs = has "\nmax-jobs = auto\n" (nixConf config);
    builders = has "\nbuilders = @${names.machines_file}\n" (nixConf config);
    settings = is
      {
        board = { enable = true; port = 22; };
        workstation.enable = true;
        queue.min_free_mib = 4096;
      }
      (roostToml config);
    system = is "string" (builtins.typeOf config.system.build.toplevel.drvPath);
  });

  settings-have-documented-options = given [ client ] (_: options:
    let
      documented = options.services.roost.settings.type.getSubOptions [ ];
    in
    {
      slots = has "Builds at once" documented.board.slots.description;
      types = is "null or boolean" documented.workstation.emulate_here.type.description;
      sections = is [ "admission" "board" "node" "placement" "queue" "workstation" ]
        (lib.attrNames (lib.filterAttrs (name: _: name != "_freeformOptions" && name != "_module") documented));
    });

  settings-of-the-wrong-type-are-refused = given [ client (set { queue.max_jobs = "many"; }) ]
    (config: _: { refused = is false (builtins.tryEval config.services.roost.settings.queue.max_jobs).success; });

  settings-that-no-page-names-reach-the-program = given
    [
      client
      (set {
        queue.later = 1;
        placement.systems.riscv64-linux.emulation = "never";
        node.labels = [ "fast" ];
        rule = [{ name = "chromium*"; prefer = [ "fast" ]; }];
      })
    ]
    (config: _: {
      labels = is [ "fast" ] (roostToml config).node.labels;
      rule = is [{ name = "chromium*"; prefer = [ "fast" ]; }] (roostToml config).rule;
      unknown = is 1 (roostToml config).queue.later;
      table = is "never" (roostToml config).placement.systems.riscv64-linux.emulation;
    });
}
