# UEFI, which starts systemd-boot from the EFI system partition at /boot.
_:
{
  boot.loader = {
    systemd-boot = {
      enable = true;
      # Each has a kernel and an initrd there.
      configurationLimit = 4;
      editor = false;
    };
    # What is in the firmware's memory does not go with the medium.
    efi.canTouchEfiVariables = false;
  };
}
