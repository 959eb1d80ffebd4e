package dashboard

import (
	"bytes"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/kubeagents/kubeagents/models"
)

// appFiles are what a browser needs to install the dashboard as an app, and to show notifications while no page is open.
// Their addresses never change.
var appFiles = []string{"sw.js", "manifest.webmanifest", "icons/192.png", "icons/512.png", "icons/maskable.png", "icons/apple-touch.png"}

// AppFile serves one of appFiles: GET /sw.js, /manifest.webmanifest and /icons/{name}. Browsers ask for a newer version
// each time. The error is a *models.Error.
func (d *Dashboard) AppFile(w http.ResponseWriter, r *http.Request) error {
	name := strings.TrimPrefix(path.Clean(r.URL.Path), "/")
	if !slices.Contains(appFiles, name) {
		w.Header().Set("Cache-Control", "no-store")
		return models.NotFound("file")
	}
	f, header := d.files[name], w.Header()
	header.Set("Cache-Control", "no-cache")
	header.Set("Content-Security-Policy", d.policy) // a worker is subject to its own policy
	header.Set("Content-Type", f.contentType)
	header.Set("ETag", `"`+d.version+`"`)
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(f.body))
	return nil
}
