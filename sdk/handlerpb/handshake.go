package handlerpb

// What a node and a handler process agree on before the first message. The
// rest of the handshake is go-plugin's.
const (
	// CookieKey and CookieValue tell a handler that a node started it. They
	// are no secret: they keep a handler from being used by hand.
	CookieKey   = "PARLEY_HANDLER"
	CookieValue = "parley.handler.v1"
	// PluginName is the key of the contract in go-plugin's plugin set.
	PluginName = "handler"
	// EnvMaxPayload holds the node's payload limit in bytes, in decimal.
	EnvMaxPayload = "PARLEY_MAX_PAYLOAD"
	// EnvDebug is set where a debugger may stop the handler.
	EnvDebug = "PARLEY_HANDLER_DEBUG"
)
