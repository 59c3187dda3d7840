package sessionapi

import (
	"io"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

// trickle has a byte every ten seconds, for ever.
type trickle struct{}

func (trickle) Read([]byte) (int, error) {
	time.Sleep(10 * time.Second)
	return 1, nil
}

// A cell that sends its record byte by byte is cut after a time.
func TestRecordsArriveInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		r := &patientReader{httptest.NewRecorder(), trickle{}, began.Add(maxArrival)}
		_, err := io.Copy(io.Discard, r)
		if took := time.Since(began); err == nil || took < maxArrival || took > maxArrival+time.Minute {
			t.Errorf("cut after %s: %v", took, err)
		}
	})
}
