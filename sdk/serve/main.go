package serve

import "github.com/parley-p2p/parley/sdk"

// Main runs h as a handler process and exits. It is all that the main function
// of a handler does.
func Main(h sdk.Handler) { panic("not reached") }
