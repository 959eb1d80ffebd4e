// Package dashboard serves the web dashboard: the files under web, and the page itself, whose HTML already shows the
// waiting sessions before any script has loaded.
//
// There is no build step. The browser gets the files under web unchanged.
package dashboard

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/connect"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

//go:embed web
var embedded embed.FS

// Dashboard serves the page and its files. Its methods are safe for concurrent use.
type Dashboard struct {
	store   *store.Store
	page    *template.Template
	signIn  *template.Template
	connect *template.Template
	style   template.CSS
	files   map[string]file // by name
	version string          // part of the files' URLs; changes when any file does
	prefix  string          // of the files' URLs
	policy  string
}

// file is a file to be served.
type file struct {
	contentType string
	body        []byte
}

// modules are preloaded with the page. Otherwise the browser would fetch them one after another, as each imports the
// next.
var modules = []string{"main.js", "html.js", "data.js", "acknowledge.js", "choice.js", "live.js", "stream.js", "route.js", "time.js", "theme.js", "copy.js", "parts.js", "notify.js", "devices.js", "presence.js", "mute.js", "notifications.js",
	"needs.js", "sessions.js", "agents.js", "session.js", "vendor/preact.js", "vendor/hooks.js", "vendor/htm.js"}

// New returns the dashboard of st. The error says which embedded file is invalid.
func New(st *store.Store) (*Dashboard, error) {
	web, err := fs.Sub(embedded, "web")
	if err != nil {
		return nil, err
	}
	d := &Dashboard{store: st, files: map[string]file{}}
	sum := sha256.New()
	err = fs.WalkDir(web, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := fs.ReadFile(web, name)
		if err != nil {
			return err
		}
		fmt.Fprintf(sum, "%s %d\n", name, len(body))
		sum.Write(body)
		d.files[name] = file{contentTypes[path.Ext(name)], body}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the dashboard's files: %w", err)
	}
	d.version = hex.EncodeToString(sum.Sum(nil)[:6])
	d.prefix = "assets/" + d.version + "/"
	d.style = template.CSS(d.files["style.css"].body)
	pages, err := template.New("").Funcs(functions).Funcs(template.FuncMap{"icon": d.icon}).ParseFS(web, "*.html")
	if err != nil {
		return nil, fmt.Errorf("parse the dashboard's pages: %w", err)
	}
	d.page, d.signIn, d.connect = pages.Lookup("page.html"), pages.Lookup("signin.html"), pages.Lookup("connect.html")
	style := sha256.Sum256([]byte(d.style))
	d.policy = "default-src 'self'; style-src 'self' 'sha256-" + base64.StdEncoding.EncodeToString(style[:]) +
		"'; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
	return d, nil
}

// icon returns an icon of vendor/icons.svg for a page that is shown before, or without, signing in.
func (d *Dashboard) icon(name string) (template.HTML, error) {
	_, symbol, ok := bytes.Cut(d.files["vendor/icons.svg"].body, []byte(`<symbol id="i-`+name+`" viewBox="0 0 24 24">`))
	shapes, _, closed := bytes.Cut(symbol, []byte("</symbol>"))
	if !ok || !closed {
		return "", fmt.Errorf("vendor/icons.svg has no icon %q", name)
	}
	return template.HTML(`<svg class="icon icon-` + name + `" viewBox="0 0 24 24" aria-hidden="true" focusable="false">` + string(shapes) + "</svg>"), nil
}

// contentTypes are the content types of the files by extension. They don't depend on the machine's own tables.
var contentTypes = map[string]string{
	".css":  "text/css; charset=utf-8",
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".png":  "image/png",
	".svg":  "image/svg+xml",
	"":      "text/plain; charset=utf-8",

	".webmanifest": "application/manifest+json",
}

// Asset serves a file of the page: GET /assets/*. Its URL changes when the file does, so browsers may cache it forever.
// The error is a *models.Error.
func (d *Dashboard) Asset(w http.ResponseWriter, r *http.Request) error {
	name, current := strings.CutPrefix(strings.TrimPrefix(path.Clean(r.URL.Path), "/"), d.prefix)
	if !current || path.Ext(name) == ".html" {
		name = ""
	}
	return d.sendFile(w, name, "private")
}

// publicFiles are the scripts of the connect page, which is also shown to people who are not signed in.
var publicFiles = []string{"connect.js", "copy.js", "theme.js"}

// PublicAsset serves one of publicFiles: GET /connect/assets/*. The error is a *models.Error.
func (d *Dashboard) PublicAsset(w http.ResponseWriter, r *http.Request) error {
	name, current := strings.CutPrefix(strings.TrimPrefix(path.Clean(r.URL.Path), "/"), d.publicPrefix())
	if !current || !slices.Contains(publicFiles, name) {
		name = ""
	}
	return d.sendFile(w, name, "public")
}

func (d *Dashboard) publicPrefix() string { return "connect/assets/" + d.version + "/" }

// sendFile responds with the file of this name, which caches of the given kind may store forever. The error is a
// *models.Error.
func (d *Dashboard) sendFile(w http.ResponseWriter, name, caches string) error {
	f, ok := d.files[name]
	if !ok {
		w.Header().Set("Cache-Control", "no-store")
		return models.NotFound("file: load the page again")
	}
	w.Header().Set("Cache-Control", caches+", max-age=31536000, immutable")
	w.Header().Set("Content-Security-Policy", d.policy) // a worker is subject to its own policy, not to the page's
	send(w, http.StatusOK, f.contentType, f.body)
	return nil
}

// send responds with body.
func send(w http.ResponseWriter, status int, contentType string, body []byte) {
	header := w.Header()
	header.Set("Content-Type", contentType)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body) //nolint:errcheck // fails only if the client is gone
}

// Icon serves the favicon, with the number of waiting sessions or a mark for trouble: GET
// /favicon.svg?waiting=3&trouble=true.
func (d *Dashboard) Icon(w http.ResponseWriter, r *http.Request) error {
	waiting, _ := strconv.Atoi(r.URL.Query().Get("waiting"))
	var b bytes.Buffer
	b.WriteString(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">` + mark)
	if waiting > 0 {
		label := strconv.Itoa(min(waiting, 99))
		fmt.Fprintf(&b, `<circle cx="20" cy="20" r="12" fill="#f59e0b"/><text x="20" y="25.5" font-family="system-ui,sans-serif" font-size="15" font-weight="700" text-anchor="middle" fill="#1c1207">%s</text>`, label)
	} else if r.URL.Query().Get("trouble") == "true" {
		b.WriteString(`<circle cx="24" cy="24" r="8" fill="#dc2626"/>`)
	}
	b.WriteString(`</svg>`)
	w.Header().Set("Cache-Control", "public, max-age=86400")
	send(w, http.StatusOK, contentTypes[".svg"], b.Bytes())
	return nil
}

// mark is the project's logo: a hub with its agents.
const mark = `<rect width="32" height="32" rx="8" fill="#4f46e5"/><g stroke="#fff" stroke-width="2.2" stroke-linecap="round">` +
	`<path d="M16 16 8 9M16 16l8-7M16 16v9"/></g><circle cx="16" cy="16" r="4.4" fill="#fff"/><circle cx="8" cy="9" r="2.8" fill="#c7d2fe"/>` +
	`<circle cx="24" cy="9" r="2.8" fill="#c7d2fe"/><circle cx="16" cy="25" r="2.8" fill="#c7d2fe"/>`

// Push is what the page needs to know of Web Push from the beginning, so that it asks for nothing without need.
type Push struct {
	On      bool // whether the server sends notifications by Web Push
	Devices bool // whether the client's token has devices, which should not be notified of what the page shows
}

// Page serves the page of a server to a client that may read what grant allows. Unless the request selects another
// view, the HTML already shows the waiting sessions. now is the current time on the clock of sessions. The page's links
// are relative to base, a path that ends with a slash; "" means the address of the page.
func (d *Dashboard) Page(w http.ResponseWriter, r *http.Request, grant *access.Grant, server connect.Server, push Push, base string, now time.Time) error {
	view, err := d.view(r, grant, server, now)
	if err != nil {
		return err
	}
	view.Base, view.Push = base, push
	return d.render(w, http.StatusOK, d.page, view)
}

// SignIn is the content of the sign-in form.
type SignIn struct {
	Status int    // of the response
	Query  string // of the requested view
	Fault  string // why the token was rejected, "" if none was given
	Base   string // as in [Dashboard.Page]
}

// SignIn serves the sign-in form.
func (d *Dashboard) SignIn(w http.ResponseWriter, r *http.Request, form SignIn) error {
	return d.render(w, form.Status, d.signIn, struct {
		SignIn
		Style template.CSS
		Theme string
	}{form, d.style, theme(r)})
}

// Connect serves the page that explains how to connect agents to a server. Unless activity is nil, it also says which
// tools have reported.
func (d *Dashboard) Connect(w http.ResponseWriter, r *http.Request, server connect.Server, activity *connect.Activity) error {
	return d.render(w, http.StatusOK, d.connect, struct {
		Style                          template.CSS
		Theme, Prefix                  string
		Server                         connect.Server
		Activity                       *connect.Activity
		Clients                        []connect.Client
		TokenVariable, AgentIDVariable string
	}{d.style, theme(r), d.publicPrefix(), server, activity, connect.Clients, connect.TokenVariable, connect.AgentIDVariable})
}

// render responds with a page.
func (d *Dashboard) render(w http.ResponseWriter, status int, page *template.Template, view any) error {
	var body bytes.Buffer
	if err := page.Execute(&body, view); err != nil {
		return fmt.Errorf("render the dashboard's page: %w", err)
	}
	header := w.Header()
	header.Set("Content-Security-Policy", d.policy)
	header.Set("Cache-Control", "no-store")
	header.Add("Vary", "Cookie") // for the theme
	send(w, status, contentTypes[".html"], body.Bytes())
	return nil
}

// theme returns light or dark if the user chose one, or "" for the system's theme.
func theme(r *http.Request) string {
	if c, err := r.Cookie("theme"); err == nil && slices.Contains([]string{"light", "dark"}, c.Value) {
		return c.Value
	}
	return ""
}
