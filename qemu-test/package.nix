# The roost-qemu program with QEMU, to boot images. Its tests of a whole fleet need a checkout, and Debian.
{ lib, rustPlatform, makeWrapper, qemu, roost, util-linux }:
rustPlatform.buildRustPackage {
  pname = "roost-qemu";
  inherit (roost) version src;
  cargoLock.lockFile = ../Cargo.lock;

  nativeBuildInputs = [ makeWrapper ];
  cargoBuildFlags = [ "--package=roost-qemu" ];
  # Its tests are for Debian, too.
  doCheck = false;

  postInstall = ''
    wrapProgram $out/bin/roost-qemu --prefix PATH : ${lib.makeBinPath [ qemu util-linux ]}
  '';

  # Where QEMU's own firmware is.
  passthru = { inherit qemu; };

  meta = {
    description = "Boots images of roost's boards under QEMU";
    inherit (roost.meta) homepage license platforms;
    mainProgram = "roost-qemu";
  };
}
