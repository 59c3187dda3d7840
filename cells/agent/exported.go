package agent

import (
	"net/http"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/exporter"
	"github.com/sluice-cd/sluice/cells/maintenance/server"
	"github.com/sluice-cd/sluice/releases/export"
)

// exportConsent returns the owner's word on exports; nil: there is none.
func (w ownerDecisions) exportConsent() *cells.ExportConsent {
	if w.decisions == nil {
		return nil
	}
	return w.decisions.Export
}

// openExports opens what leaves the cell beside its reports.
func (a *Agent) openExports() *exporter.Exporter {
	o := &a.options
	return exporter.Open(exporter.Options{StateDir: o.StateDir, Cell: o.Cell, To: a.client.Transport(1),
		Scrape: o.ExportScrape, Log: o.Log.With().Str("about", "exports").Logger()})
}

// publishWish says what the release that is known to work wishes to have exported.
func (l *loop) publishWish() {
	var wish *export.List
	if c := l.state.Contents; c != nil {
		wish = c.Export
	}
	l.exports.SetWish(l.state.runningRelease(), wish)
}

// localHandler serves programs on this machine what is no matter of flags.
func (l *loop) localHandler() http.Handler {
	mux := http.NewServeMux()
	intake := server.LocalOnly(l.exports.Handler())
	mux.Handle("POST /v1/metrics", intake)
	mux.Handle("POST /v1/logs", intake)
	mux.Handle("/", l.maintenance.Handler())
	return mux
}
