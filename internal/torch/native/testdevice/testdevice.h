// What the test device counts, since it was loaded.
#pragma once
#include <stdint.h>

typedef struct {
  int64_t launches;                   // operators on the device
  int64_t to_device, to_device_bytes; // copies from the host
  int64_t to_host, to_host_bytes;     // copies to the host
  int64_t waits;                      // times that the host waited for the device
  int64_t peak_bytes;                 // most memory in use since the last call
} koala_test_device_numbers;
