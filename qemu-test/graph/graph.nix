# A program whose parts are compiled, linked and run each by a derivation of its own, with the C compiler of
# the machine that builds: it shows that in its sandbox.
#
# And small ones for whatever else is tried: one that is quick, one that is slow, and a system for `roost update`.
{ system, salt ? "", switch ? null }:
let
  run = name: script: inputs: derivation ({
    inherit name system salt;
    builder = "/bin/sh";
    args = [ "-euc" script ];
    PATH = "/usr/bin:/bin";
  } // inputs);
  compile = name: source: run "${name}.o" "gcc -O2 -Wall -Werror -I$include -c $source -o $out" {
    inherit source;
    include = ./include;
  };
  library = run "libwork.a" "ar rcs $out $primes $sha256" {
    primes = compile "primes" ./primes.c;
    sha256 = compile "sha256" ./sha256.c;
  };
in
rec {
  # Static, to be run where there is no C library for it.
  program = run "work" "gcc -static $main $library -o $out" {
    inherit library;
    main = compile "main" ./main.c;
  };
  # What it says where it was built.
  report = run "report" "$program > $out" { inherit program; };

  quick = run "quick" "echo quick > $out" { };
  slow = run "slow" "echo begun; sleep 20; echo slow > $out" { };

  # `switch` is the path of a program that makes a system the one that is started next.
  toplevel = run "system"
    ''
      mkdir -p $out/bin $out/etc/systemd/system
      cp $switch $out/bin/switch-to-configuration
      cp $program $out/bin/work
      chmod 555 $out/bin/*
      echo $system > $out/system
      : > $out/etc/systemd/system/roost-update-trial.service
    ''
    { inherit program; switch = /. + switch; };
}
