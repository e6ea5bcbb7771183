package node

import "testing"

// openAgency opens the agency.db of a node that is not run, as its Run does.
func openAgency(t testing.TB, n *Node) (closeIt func()) {
	t.Helper()
	db, err := openAgencyDB(n.cfg.path(agencyFile), n.cfg.agencyStep)
	if err != nil {
		t.Fatal(err)
	}
	n.agencyDB = db
	open := true
	closeIt = func() {
		if !open {
			return
		}
		open = false
		if err := db.close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(closeIt)
	return closeIt
}
