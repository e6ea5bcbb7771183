package control

import "testing"

func TestPeerCheck(t *testing.T) {
	t.Parallel()
	if checkUID(1000, 1000) != nil || checkUID(0, 1000) == nil || checkUID(1001, 1000) == nil {
		t.Error("only the own user id may pass")
	}
}
