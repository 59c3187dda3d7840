package consoleapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/audit"
	"github.com/sluice-cd/sluice/engine/console"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/limit"
	"github.com/sluice-cd/sluice/internal/words"
)

// Audit has the rows of who did what: a store.
type Audit interface {
	AuditEntries(ctx context.Context, limit int) ([]access.Entry, error) // newest first
	// ExportAudit calls begin with the header and write with each row, oldest first; after a lost connection from the
	// beginning again.
	ExportAudit(ctx context.Context, begin func(audit.Header) error, write func(audit.Sealed) error) error
}

// maxFilter bounds the filter of the audit's page in bytes.
const maxFilter = 500

// auditHandlers serves the audit to administrators.
type auditHandlers struct {
	views  api.Views
	pages  *pageCache
	audit  Audit          // nil: there is none
	dir    string         // for the file of an export, while it is sent; empty: the system's
	export limit.InFlight // exports and verifications read all rows
}

func (h *auditHandlers) routes() []api.Route {
	op := func(id, summary, kind string, params ...*huma.Param) huma.Operation {
		return huma.Operation{OperationID: id, Tags: []string{"console"}, Summary: summary, Parameters: params,
			Responses: map[string]*huma.Response{"200": api.Response(summary, kind, api.TextSchema())},
			Errors:    []int{404, 503}}
	}
	return []api.Route{
		{Method: http.MethodGet, Path: console.AuditPath, Audience: api.Admin, Page: true, Handler: h.servePage,
			Operation: op("consoleAudit", "Who did what at the control plane", "text/html",
				api.Param("q", "query", "words that a row must have", api.TextSchema()),
				api.Param(console.VerifyParam, "query", "verify the chain of hashes", api.TextSchema()))},
		{Method: http.MethodGet, Path: console.AuditExport, Audience: api.Admin, Handler: h.serveExport,
			Operation: op("consoleAuditExport", "The whole audit, as sluice audit export prints it",
				"application/jsonl")},
	}
}

func (h *auditHandlers) servePage(w http.ResponseWriter, r *http.Request, _ *api.Caller) {
	secure(w.Header())
	v := h.views.View()
	switch {
	case v == nil:
		api.WriteNotReady(w)
		return
	case h.audit == nil:
		writePage(w, http.StatusNotFound, console.RenderMissing(h.pages.latestModel(v), "audit"))
		return
	}
	query := r.URL.Query()
	shown := console.Audit{Filter: words.Clip(strings.TrimSpace(query.Get("q")), maxFilter)}
	var err error
	if shown.Entries, err = h.audit.AuditEntries(r.Context(), console.MaxAudited); err != nil {
		api.WriteError(w, err)
		return
	}
	if query.Get(console.VerifyParam) != "" {
		file, ok := h.write(w, r)
		if !ok {
			return
		}
		defer file.Close()
		report, err := audit.Verify(file, nil)
		if err != nil {
			api.WriteError(w, err)
			return
		}
		shown.Report = &report
	}
	writePage(w, http.StatusOK, console.RenderAudit(h.pages.latestModel(v), shown))
}

func (h *auditHandlers) serveExport(w http.ResponseWriter, r *http.Request, _ *api.Caller) {
	secure(w.Header())
	if h.audit == nil {
		api.WriteProblem(w, http.StatusNotFound, "This control plane keeps no audit.")
		return
	}
	file, ok := h.write(w, r)
	if !ok {
		return
	}
	defer file.Close()
	w.Header().Set("Content-Type", "application/jsonl")
	w.Header().Set("Content-Disposition", `attachment; filename="audit.jsonl"`)
	w.Header().Set("Cache-Control", "no-store")
	_, _ = io.Copy(w, file) // an error means that the client has gone
}

// write writes an export to a file without a name, at whose beginning it stands. If it fails, write has answered.
func (h *auditHandlers) write(w http.ResponseWriter, r *http.Request) (*os.File, bool) {
	if !h.export.Acquire() {
		api.SetRetryAfter(w, 5)
		api.WriteProblem(w, http.StatusServiceUnavailable, "The audit is being exported for somebody else: try again.")
		return nil, false
	}
	defer h.export.Release()
	file, err := os.CreateTemp(h.dir, "audit-*.jsonl")
	if err != nil {
		api.WriteError(w, err)
		return nil, false
	}
	err = os.Remove(file.Name()) // it is gone once it is closed
	var export *audit.Exporter
	if err == nil {
		err = h.audit.ExportAudit(r.Context(), func(header audit.Header) (err error) {
			if _, err = file.Seek(0, io.SeekStart); err == nil {
				err = file.Truncate(0)
			}
			if err == nil {
				export, err = audit.NewExporter(file, header)
			}
			return err
		}, func(row audit.Sealed) error { return export.Write(row) })
	}
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		api.WriteError(w, errors.Join(err, file.Close()))
		return nil, false
	}
	return file, true
}
