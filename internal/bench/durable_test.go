package bench

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/stretchr/testify/require"
)

// BenchmarkDurable compares the server with a data directory to the same server without one: one report per request at
// 1, 64 and 256 connections, and 100 reports per request. Disks differ much from machine to machine, so it also
// measures three baselines: the bare handler; the bare handler that appends what it reads to a file and answers once
// that is synced, in groups; and the storage engine alone, with as many writers that each wait for their own synced
// write of the same size. The ratio of the second to the first is what this machine allows any server that syncs before
// it answers.
func BenchmarkDurable(b *testing.B) {
	for _, load := range []struct{ connections, size int }{{1, 1}, {64, 1}, {256, 1}, {64, 100}} {
		b.Run(fmt.Sprintf("%d-a-request-at-%d-connections", load.size, load.connections), func(b *testing.B) {
			sessions := load.connections * load.size
			memory, durable := startServer(b), startServer(b, "DATA_DIR="+filepath.Join(b.TempDir(), "data"))
			bare, bareSynced := startBare(b), startBare(b, bareLogVariable+"="+filepath.Join(b.TempDir(), "log"))
			reports := requests(load.connections, sessions, load.size)
			const historyLimit = 100 // the default of HISTORY_LIMIT
			fill(b, memory, sessions, historyLimit)
			fill(b, durable, sessions, historyLimit)
			db := openEngine(b)
			measures := []func() float64{
				func() float64 { return rate(b, durable, reports) },
				func() float64 { return rate(b, memory, reports) },
				func() float64 { return rate(b, bare, reports) },
				func() float64 { return rate(b, bareSynced, reports) },
				func() float64 { return commits(b, db, load.connections, load.size*len(report(0))) },
			}
			for _, measure := range measures {
				measure()
			}
			var xMemory, xBareSynced, bareSyncedXBare, xEngine, rates []float64
			for n := 0; b.Loop(); n++ {
				r := make([]float64, len(measures))
				for i := range measures {
					i = (i + n) % len(measures) // start with a different one each time
					r[i] = measures[i]()
				}
				xMemory, xBareSynced = append(xMemory, r[0]/r[1]), append(xBareSynced, r[0]/r[3])
				bareSyncedXBare = append(bareSyncedXBare, r[3]/r[2])
				xEngine, rates = append(xEngine, r[0]/r[4]), append(rates, r[0]*float64(load.size))
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(xMemory), "x_memory")
			b.ReportMetric(median(bareSyncedXBare), "bare_synced_x_bare")
			b.ReportMetric(median(xBareSynced), "x_bare_synced")
			b.ReportMetric(median(xEngine), "x_engine")
			b.ReportMetric(median(rates), "reports/s")
		})
	}
}

func openEngine(b *testing.B) *pebble.DB {
	db, err := pebble.Open(filepath.Join(b.TempDir(), "engine"), &pebble.Options{Logger: quiet{}, MemTableSize: 32 << 20, FormatMajorVersion: pebble.FormatTableFormatV6})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, db.Close()) })
	return db
}

// quiet logs nothing.
type quiet struct{}

func (quiet) Infof(string, ...any)         {}
func (quiet) Errorf(string, ...any)        {}
func (quiet) Fatalf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }

// commits returns the number of synced writes of size bytes per second that the engine takes from concurrent writers.
func commits(b *testing.B, db *pebble.DB, writers, size int) float64 {
	var (
		wg   sync.WaitGroup
		next atomic.Uint64
	)
	start := time.Now()
	value := make([]byte, size)
	done := 0
	var mu sync.Mutex
	for range writers {
		wg.Go(func() {
			n := 0
			for ; time.Since(start) < span(); n++ {
				if err := db.Set(fmt.Appendf(nil, "%020d", next.Add(1)), value, pebble.Sync); err != nil {
					b.Error(err)
					return
				}
			}
			mu.Lock()
			defer mu.Unlock()
			done += n
		})
	}
	wg.Wait()
	return float64(done) / time.Since(start).Seconds()
}
