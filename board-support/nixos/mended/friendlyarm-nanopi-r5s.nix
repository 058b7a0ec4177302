# Its patches change options of the kernel that a builder does without, LEDs and graphics, and with any of
# them the kernel is compiled rather than fetched.
{ lib, ... }:
{
  boot.kernelPatches = lib.mkForce [ ];
}
