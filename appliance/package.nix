# The roost program and the files that go with it.
{ lib, rustPlatform }:
let
  names = lib.importJSON ./names.json;
  workspace = (lib.importTOML ../Cargo.toml).workspace.package;
in
rustPlatform.buildRustPackage {
  pname = "roost";
  inherit (workspace) version;

  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../Cargo.toml
      ../Cargo.lock
      ../README.md
      ../appliance
      ../board-support
      ../clippy.toml
      ../docs
      ../qemu-test
      ../tests
    ];
  };
  cargoLock.lockFile = ../Cargo.lock;

  # The lab's tests need root and a machine of their own.
  cargoBuildFlags = [ "--package=roost" ];
  cargoTestFlags = [ "--package=roost" "--package=nix-compat" "--package=board-support" ];

  # The files name the program where other distributions have it.
  postInstall = ''
    share=appliance/share
    install -Dm444 -t $out/lib/systemd/system $share/systemd/system/*
    install -Dm444 -t $out/lib/sysusers.d $share/sysusers.d/*
    install -Dm444 -t $out/lib/tmpfiles.d $share/tmpfiles.d/*
    install -Dm444 -t $out/etc/ssh/sshd_config.d $share/ssh/sshd_config.d/*
    install -Dm444 -t $out/share/dbus-1/system.d $share/dbus-1/system.d/*
    substituteInPlace \
      $out/lib/systemd/system/roost.service \
      $out/lib/systemd/system/roost-first-boot.service \
      $out/lib/systemd/system/roost-update.service \
      $out/lib/systemd/system/roost-update-trial.service \
      $out/etc/ssh/sshd_config.d/50-roost.conf \
      --replace-fail /usr/bin/roost $out/bin/roost
  '';

  passthru = { inherit names; };

  meta = {
    description = "Turns boards into a fleet of native Nix builders that find their users by themselves";
    homepage = workspace.repository;
    license = with lib.licenses; [ mit asl20 ];
    mainProgram = "roost";
    platforms = lib.platforms.linux;
  };
}
