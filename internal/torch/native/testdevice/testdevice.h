// What the test device counts, since it was loaded.
#pragma once
#include <stdint.h>

typedef struct {
  int64_t launches;                    // operators on the device
  int64_t to_device, to_device_bytes;  // copies from the host
  int64_t to_host, to_host_bytes;      // copies to the host
  int64_t waits;                       // times that the host waited for the device
  int64_t bytes, peak_bytes;           // in use, and the most since the last call
  int64_t host_bytes, host_peak_bytes; // likewise of the CPU's tensors
} koala_test_device_numbers;
