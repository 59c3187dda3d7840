package host

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/selfupdate"
	"github.com/sluice-cd/sluice/releases"
)

// slow answers each request with a byte now and then, without end.
type slow struct{ request *http.Request }

func (slow) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(slow{r})}, nil
}

func (s slow) Read(into []byte) (int, error) {
	select {
	case <-s.request.Context().Done():
		return 0, s.request.Context().Err()
	case <-time.After(idleTimeout / 2):
		into[0] = ' '
		return 1, nil
	}
}

// A control plane that sends an image without end does not hold the cell up, which heals nothing meanwhile.
func TestAPullHasALimit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		_, err := OfAgent(dir, Installed).Resolve(t.Context(), Installed, "vendor.example/team/sluice@"+
			string(releases.DigestBytes(nil)), selfupdate.Release{Verified: true, Images: slow{}})
		unavailable := new(cells.UnavailableError)
		if !errors.As(err, &unavailable) || !strings.Contains(err.Error(), "did not come within 15m0s") {
			t.Error(err)
		}
		if took := time.Since(begun); took != bringTimeout {
			t.Errorf("it took %s", took)
		}
	})
}
