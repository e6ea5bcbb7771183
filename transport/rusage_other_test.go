//go:build !unix

package transport

import "time"

// processorTime is not known here.
func processorTime() time.Duration { return 0 }
