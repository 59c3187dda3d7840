package peopleapi_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
)

// A token's name is written to logs and to the audit.
func TestTokenNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "ada\x1b[2J", "ada\nbob", "-x", strings.Repeat("a", 101)} {
		if _, _, err := peopleapi.NewToken(name, access.Roles{access.Viewer}, "", time.Now()); err == nil {
			t.Errorf("a token for %q", name)
		}
	}
}
