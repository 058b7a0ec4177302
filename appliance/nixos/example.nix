# A machine that is both a board and a workstation, with everything else as small as it can be: for
# checks, and to copy from.
{
  services.roost.board.enable = true;
  services.roost.client.enable = true;
  services.roost.settings.queue.min_free_mib = 4096;

  fileSystems."/" = {
    device = "/dev/disk/by-label/nixos";
    fsType = "ext4";
  };
  boot.loader.grub.enable = false;
  system.stateVersion = "26.05";
}
