#include <stddef.h>
#include <stdint.h>

/* How many primes there are below a number. */
unsigned count_primes(unsigned below);

/* SHA-256 (FIPS 180-4) of some bytes. */
void sha256(const uint8_t *bytes, size_t length, uint8_t digest[32]);
