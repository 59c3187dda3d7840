package cellapi

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
)

// Receipts are encoded as json.Marshal encodes them.
func TestReceipts(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 3, 4, 5, 6, 7, time.UTC)
	signed := []cells.SignedPins{{Pins: []string{"sha256:a", "sha256:b"}, Serial: 2, Key: []byte("k"),
		Signature: []byte{0}}}
	for _, want := range []cells.Receipt{
		{}, {Acknowledged: 7, Time: at}, {Acknowledged: 7, Time: at, Pins: []string{"sha256:a"}},
		{Pins: []string{"sha256:a"}, SignedPins: signed}, {SignedPins: signed},
	} {
		got, err := encodeReceipt(cells.Receipt{Acknowledged: want.Acknowledged, Time: want.Time},
			encodePins(want.Pins, want.SignedPins))
		text, _ := json.Marshal(want)
		if err != nil || string(got) != string(text)+"\n" {
			t.Errorf("got  %s (%v)\nwant %s", got, err, text)
		}
	}
}
