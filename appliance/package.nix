# The roost program and the files that go with it.
{ lib, stdenv, rustPlatform, buildPackages }:
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

  # Pages are written by a program that runs where the package is built.
  postInstall =
    let
      runs = stdenv.buildPlatform.canExecute stdenv.hostPlatform;
      writer = if runs then "$out/bin/roost" else lib.getExe buildPackages.roost;
    in
    ''
      bash appliance/share/install.sh --program $out/bin/roost --pages-by ${writer} \
        --prefix $out --sysconfdir $out/etc
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
