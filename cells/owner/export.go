package owner

import (
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases/export"
)

// ApproveExport lets leave what a release wishes to have exported, and nothing else.
func ApproveExport(release string, wish export.List) Decision {
	return Decision{[]string{"export", "approve"}, func(o *cells.Owner) (string, error) {
		o.Export = &cells.ExportConsent{Hold: exportHold(o), Allowed: wish}
		lines := wish.Lines()
		if len(lines) == 0 {
			return release + " asks for nothing: nothing leaves", nil
		}
		return "agreed, may leave from now on:\n  " + strings.Join(lines, "\n  "), nil
	}}
}

// HoldExport sets how long a file waits before it leaves.
func HoldExport(hold time.Duration) Decision {
	return Decision{[]string{"export", "hold", words.ExactDuration(hold)}, func(o *cells.Owner) (string, error) {
		next := cells.ExportConsent{}
		if o.Export != nil {
			next = *o.Export
		}
		next.Hold = hold
		o.Export = &next
		return "a file waits " + words.ExactDuration(hold) + " before it leaves", nil
	}}
}

// StopExport lets nothing leave, and has what waits removed.
func StopExport() Decision {
	return Decision{[]string{"export", "off"}, func(o *cells.Owner) (string, error) {
		o.Export = &cells.ExportConsent{Off: true, Hold: exportHold(o)}
		return "off: nothing leaves; sluice cell export approve ends that", nil
	}}
}

func exportHold(o *cells.Owner) time.Duration {
	if o.Export == nil {
		return 0
	}
	return o.Export.Hold
}
