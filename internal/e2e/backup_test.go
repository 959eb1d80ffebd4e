//go:build unix

package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access/accesstest"
	"github.com/kubeagents/kubeagents/internal/command"
	"github.com/kubeagents/kubeagents/internal/datadir"
)

// completed matches the output of a command that made a backup in a folder.
var completed = regexp.MustCompile(`(?m)^The backup is complete: (.*/\d{8}T\d{6}Z)$`)

// namesIn returns the names of everything in a directory.
func namesIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestBackupsInAFolder makes backups in a folder with old backups, one that broke off, and other things: over HTTP from
// a server with TLS, and on the server's machine. The newest two are kept. The new one is restored.
func TestBackupsInAFolder(t *testing.T) {
	tokens, holders := accesstest.TokensFile(t, accesstest.EveryKind())
	dir := t.TempDir()
	data := "DATA_DIR=" + filepath.Join(dir, "data")
	s := startTLS(t, data, "TOKENS_FILE="+tokens)
	for i := range 10 {
		w := s.do(t, "POST", "/webhook/status", reportOf("a", fmt.Sprint(i), "running"), holders["reports"].Header()...)
		require.Equal(t, 200, w.Code, "%s", w.Body)
	}
	token := writeFile(t, filepath.Join(dir, "token"), []byte(holders["admin"].Token+"\n"))
	for name, run := range map[string]func(folder string) (int, string){
		"over HTTP": func(folder string) (int, string) {
			return runProgram(t, []string{"SSL_CERT_FILE=" + s.caFile}, "backup", "-server", "https://"+s.address, "-token-file", token, "-keep", "2", folder)
		},
		"on the server's machine": func(folder string) (int, string) {
			return runProgram(t, []string{data}, "backup", "-keep", "2", folder)
		},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			others := []string{"20260102", "20260102T030405Z.tar", ".20260102T030405Z.partial-notours", "kubeagents-1"}
			for _, name := range append([]string{"20260101T000000Z", "20260102T000000Z", "20260103T000000Z", ".20260104T000000Z.partial-ABCDEFGH"}, others...) {
				require.NoError(t, os.Mkdir(filepath.Join(folder, name), 0o700))
				writeFile(t, filepath.Join(folder, name, "000001.log"), nil)
			}
			writeFile(t, filepath.Join(folder, "20250101T000000Z"), nil)
			status, output := run(folder)
			require.Zero(t, status, output)
			made := completed.FindStringSubmatch(output)
			require.NotNil(t, made, output)
			require.Contains(t, output, "Removed: "+filepath.Join(folder, "20260101T000000Z")+"\nRemoved: "+filepath.Join(folder, "20260102T000000Z")+"\n")
			require.ElementsMatch(t, append([]string{".lock", "20250101T000000Z", "20260103T000000Z", filepath.Base(made[1])}, others...), namesIn(t, folder))
			requirePrivate(t, made[1])

			restored := filepath.Join(t.TempDir(), "restored")
			require.NoError(t, os.MkdirAll(filepath.Join(restored, "lost+found"), 0o755))
			status, output = runProgram(t, []string{"DATA_DIR=" + restored}, "restore", "-if-empty", made[1])
			require.Zero(t, status, output)
			require.Equal(t, "The backup "+made[1]+" is restored into DATA_DIR "+restored+"\n", output)
			require.ElementsMatch(t, []string{datadir.Folder, "lost+found"}, namesIn(t, restored))
			requirePrivate(t, filepath.Join(restored, datadir.Folder))
			requireRestored(t, restored, 10)

			status, output = runProgram(t, []string{"DATA_DIR=" + restored}, "restore", "-if-empty", made[1])
			require.Zero(t, status, output)
			require.Equal(t, "DATA_DIR "+restored+" already holds state: nothing was restored\n", output)
			status, output = runProgram(t, []string{"DATA_DIR=" + restored}, "restore", made[1])
			require.Equal(t, command.ExitFailure, status)
			require.Contains(t, output, "DATA_DIR "+restored+" already holds state: stop the server and move the directory away, or set DATA_DIR to another one")
			status, output = runProgram(t, []string{"DATA_DIR=" + filepath.Join(dir, "new")}, "restore", folder)
			require.Equal(t, command.ExitFailure, status)
			require.Contains(t, output, "is a folder of backups: name one of them, such as the newest, "+made[1])
		})
	}
	require.Zero(t, s.stop(t))
}

// requireRestored starts a server on a directory and fails the test unless it has n running sessions.
func requireRestored(t *testing.T, dataDir string, n int) {
	t.Helper()
	p := start(t, "DATA_DIR="+dataDir)
	var summary struct{ Sessions struct{ Active int } }
	p.get(t, "/api/summary", &summary)
	require.Equal(t, n, summary.Sessions.Active)
	require.Zero(t, p.stop(t))
}

// TestBackupRefused fetches a backup with tokens that don't allow it, and from servers that have none, can't be reached
// or are not trusted. The error says what to do, and nothing is left.
func TestBackupRefused(t *testing.T) {
	tokens, holders := accesstest.TokensFile(t, accesstest.EveryKind())
	p := start(t, "TOKENS_FILE="+tokens, "DATA_DIR="+filepath.Join(t.TempDir(), "data"))
	s := startTLS(t, "TOKENS_FILE="+tokens)
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>"+strings.Repeat(" ", 2000)) })) //nolint:errcheck // the client sees that
	defer page.Close()
	stopped := httptest.NewServer(nil)
	stopped.Close()
	for name, test := range map[string]struct {
		server, token string
		want          string
		status        int
	}{
		"no token":                {"http://" + p.address, "", "a token is required: Authorization: Bearer …; set KUBEAGENTS_TOKEN to a valid token, or name its file with -token-file\n", 3},
		"an unknown token":        {"http://" + p.address, "ka_wrong", "refuses: unknown token; set KUBEAGENTS_TOKEN", 3},
		"a token without admin":   {"http://" + p.address, holders["reads"].Token, "refuses: the token lacks the scope admin\n", 3},
		"a team's token":          {"http://" + p.address, holders["team"].Token, "refuses: ", 3},
		"a certificate":           {"https://" + s.address, holders["admin"].Token, "can't be reached: tls: failed to verify certificate: x509: certificate signed by unknown authority", 3},
		"a server without state":  {"https://" + s.address, holders["admin"].Token, "refuses: backups over HTTP need TOKENS_FILE and DATA_DIR\n", 3},
		"no server":               {stopped.URL, "", "can't be reached", 3},
		"something else":          {page.URL, "", "the server sent something that is no backup", 1},
		"a path without a server": {"http://" + p.address + "/elsewhere", holders["admin"].Token, "http://" + p.address + "/elsewhere", 3},
	} {
		for _, keep := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", -keep ", keep), func(t *testing.T) {
				folder := t.TempDir()
				args := []string{"backup", "-server", test.server, filepath.Join(folder, "new")}
				if keep {
					args = []string{"backup", "-server", test.server, "-keep", "1", folder}
				}
				environment := []string{"KUBEAGENTS_TOKEN=" + test.token}
				if name == "a server without state" {
					environment = append(environment, "SSL_CERT_FILE="+s.caFile)
				}
				status, output := runProgram(t, environment, args...)
				require.Equal(t, test.status, status, output)
				require.Contains(t, output, test.want)
				require.Empty(t, slices.DeleteFunc(namesIn(t, folder), func(name string) bool { return name == ".lock" }))
			})
		}
	}
	for dir, want := range map[string]string{
		filepath.Join(t.TempDir(), "no", "where"): "make it first, or choose another directory",
		t.TempDir(): "already exists: choose a directory that does not exist yet",
	} {
		status, output := runProgram(t, nil, "backup", "-server", "http://"+p.address, "-token-file", writeFile(t, filepath.Join(t.TempDir(), "token"), []byte(holders["admin"].Token)), dir)
		require.Equal(t, command.ExitFailure, status, output)
		require.Contains(t, output, want)
	}
	require.Zero(t, p.stop(t))
	require.Zero(t, s.stop(t))
}

// brokenServer sends a backup in part. It then breaks off, or sends nothing more until the client has gone.
func brokenServer(t *testing.T, archive []byte, at int, stalls bool) (address string, sent chan struct{}) {
	t.Helper()
	sent = make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write(archive[:at])                 //nolint:errcheck // the client sees that
		http.NewResponseController(w).Flush() //nolint:errcheck // as above
		close(sent)
		if stalls {
			<-r.Context().Done()
		}
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(server.Close)
	return server.URL, sent
}

// archiveOf returns the backup of a server with n sessions, as it sends it.
func archiveOf(t *testing.T, n int) []byte {
	t.Helper()
	tokens, holders := accesstest.TokensFile(t, accesstest.EveryKind())
	p := start(t, "TOKENS_FILE="+tokens, "DATA_DIR="+filepath.Join(t.TempDir(), "data"))
	teamClient{holders["reports"], p}.batch(t, n, func(i int) string { return reportOf("a", fmt.Sprint(i), "running") })
	status, archive := teamClient{holders["admin"], p}.do(t, "GET", "/api/backup", "")
	require.Equal(t, 200, status)
	require.Zero(t, p.stop(t))
	return archive
}

// TestBackupBrokenOff lets servers break off at random points of a backup, and kills the command there. A backup that is
// not complete never has the name of one, and the next command removes it.
func TestBackupBrokenOff(t *testing.T) {
	archive := archiveOf(t, 100)
	folder := t.TempDir()
	for range rounds(t, "KUBEAGENTS_KILL_ROUNDS", killRounds) {
		at := 1 + rand.IntN(len(archive)-1)
		address, _ := brokenServer(t, archive, at, false)
		status, output := runProgram(t, nil, "backup", "-keep", "1", "-server", address, folder)
		require.Equal(t, command.ExitFailure, status, output)
		require.Contains(t, output, "the backup broke off: unexpected EOF", "after %d bytes", at)
		require.Equal(t, []string{".lock"}, namesIn(t, folder))

		address, sent := brokenServer(t, archive, at, true)
		cmd := exec.CommandContext(t.Context(), program(), "backup", "-keep", "1", "-server", address, folder)
		require.NoError(t, cmd.Start())
		<-sent
		for len(namesIn(t, folder)) == 1 { // until it has begun to write
		}
		status, output = runProgram(t, nil, "backup", "-keep", "1", "-server", address, folder)
		require.Equal(t, command.ExitFailure, status, output)
		require.Contains(t, output, "another command makes a backup in "+folder)
		require.NoError(t, cmd.Process.Kill())
		cmd.Wait() //nolint:errcheck // it was killed
		left := namesIn(t, folder)
		require.Len(t, left, 2)
		require.Regexp(t, `^\.\d{8}T\d{6}Z\.partial-`, left[0])
	}
	whole := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(archive) })) //nolint:errcheck // the client sees that
	defer whole.Close()
	status, output := runProgram(t, nil, "backup", "-keep", "1", "-server", whole.URL, folder)
	require.Zero(t, status, output)
	made := completed.FindStringSubmatch(output)[1]
	require.Equal(t, []string{".lock", filepath.Base(made)}, namesIn(t, folder))
	dataDir := filepath.Join(t.TempDir(), "data")
	status, output = runProgram(t, []string{"DATA_DIR=" + dataDir}, "restore", made)
	require.Zero(t, status, output)
	requireRestored(t, dataDir, 100)
}

// TestRestoreKilled kills restores at random points. After each, the server either refuses to start, or has everything.
func TestRestoreKilled(t *testing.T) {
	backup := filepath.Join(t.TempDir(), "backup")
	p := start(t, "DATA_DIR="+backup)
	content := strings.Repeat("x", 9_000)
	teamClient{p: p}.batch(t, 500, func(i int) string {
		return fmt.Sprintf(`{"agent_id":"a","session_topic":"%d","status":"running","content":%q}`, i, content)
	})
	require.Zero(t, p.stop(t))
	files := len(namesIn(t, backup))
	for range rounds(t, "KUBEAGENTS_KILL_ROUNDS", killRounds) {
		dir := t.TempDir()
		environment := []string{"DATA_DIR=" + dir}
		staging := filepath.Join(dir, ".kubeagents.restoring")
		cmd := exec.CommandContext(t.Context(), program(), "restore", backup)
		cmd.Env = append(os.Environ(), environment...)
		require.NoError(t, cmd.Start())
		ended := make(chan struct{})
		go func() { defer close(ended); cmd.Wait() }() //nolint:errcheck // it is killed, or has ended
		for at := rand.IntN(files); ; {
			if begun, err := os.ReadDir(staging); err == nil && len(begun) >= at || isClosed(ended) {
				break
			}
		}
		cmd.Process.Kill() //nolint:errcheck // it may have ended
		<-ended
		if _, err := os.Stat(staging); err == nil {
			status, output := runProgram(t, append(environment, "HOST=127.0.0.1", "PORT=0"))
			require.Equal(t, command.ExitUsage, status, output)
			require.Contains(t, output, "a restore into DATA_DIR "+dir+" is under way or broke off: run kubeagents restore again, or remove "+staging)
		}
		status, output := runProgram(t, environment, "restore", "-if-empty", backup)
		require.Zero(t, status, output)
		require.NoDirExists(t, staging)
		requireRestored(t, dir, 500)
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
