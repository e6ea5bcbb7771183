package control

import "errors"

// Client is a Node behind the socket.
type Client struct{ Node }

// Dial finds the node of a data directory.
func Dial(dir string) (*Client, error) { return nil, errors.New("control: not built yet") }
