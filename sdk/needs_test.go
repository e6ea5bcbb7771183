package sdk

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

func TestNeeds(t *testing.T) {
	t.Parallel()
	ok := Function("f", func(*Context, struct{}) (struct{}, error) { return struct{}{}, nil })
	d, err := Define("maps", "1", ok, Needs("network", "read:/srv/maps"), Needs("network", "memory:1024")).Describe(context.Background())
	if err != nil || fmt.Sprint(d.Needs) != "[network read:/srv/maps memory:1024]" {
		t.Errorf("needs %v, %v", d.Needs, err)
	}
	if d, _ := Define("maps", "1", ok, Needs("write:/x")).Clone().Describe(context.Background()); len(d.Needs) != 1 {
		t.Errorf("a clone needs %v", d.Needs)
	}
	for _, bad := range []string{"", "net", "network:", "network:x", "read", "read:", "read:etc", "read:/a/../b", "write:/a/", "write:/a\x00", "write:/a\n", "write:/\xff",
		"memory:", "memory:-1", "memory:1GiB", "read:/" + strings.Repeat("x", MaxNeed)} {
		if _, err := Define("maps", "1", ok, Needs(bad)).Describe(context.Background()); err == nil || !strings.Contains(err.Error(), "need") {
			t.Errorf("need %q: %v", bad, err)
		}
	}
	var many []string
	for i := range MaxNeeds + 1 {
		many = append(many, fmt.Sprintf("read:/%d", i))
	}
	if _, err := Define("maps", "1", ok, Needs(many...)).Describe(context.Background()); err == nil {
		t.Error("too many needs")
	}
}
