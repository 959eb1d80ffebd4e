# Tests the package in a container: see TestReleasePackage. MANUAL stands for the commands of docs/operate.md.
set -eux -o pipefail
sudo() { env "$@"; }
traces() { find /etc /usr /var /run -name '*kubeagents*' | sort; }
show() { systemctl show --value -p "$1" kubeagents; }
traces >traces-before
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=hub.example \
    -addext subjectAltName=DNS:hub.example -keyout privkey.pem -out fullchain.pem
export CURL_CA_BUNDLE=$PWD/fullchain.pem
set +x
exec 3>&2 2>all-stderr
trap 'set +x; cat all-stderr; journalctl -u kubeagents --no-pager | tail -20; systemctl list-jobs --no-pager' EXIT
token() { grep -m 1 -o 'ka_[A-Z2-7]*' all-stderr; }

MANUAL
exec 2>&3
trap - EXIT
set -x
TOKEN=$(token)
header="Authorization: Bearer $TOKEN"
report() { curl -fsS -H "$header" https://hub.example:8080/webhook/status -d "{\"agent_id\":\"a\",\"session_topic\":\"$1\",\"status\":\"running\"}"; }
known() { curl -fsS -H "$header" https://hub.example:8080/api/sessions | grep -o '"session_topic":"[a-z]*"' | sort | tr -d '\n'; }

# The server runs with the unit's restrictions, as a user of its own, and holds no privileges.
[[ $(show ActiveState) == active ]]
pid=$(show MainPID)
[[ $(ps -o user= -p "$pid") == kubeage* ]]
grep -q '^CapEff:.0*$' "/proc/$pid/status"
[[ $(stat -c %a /var/lib/private/kubeagents) == 700 ]]
[[ $(curl -s -o /dev/null -w '%{http_code}' https://hub.example:8080/api/sessions) == 401 ]]
curl -fsS -H "$header" https://hub.example:8080/api/notifications | grep -q '"rules_file":true'

# A report outlives a crash, after which systemd starts the server again.
report crash
systemctl kill -s KILL kubeagents
until [[ $(show NRestarts) == 1 && $(show ActiveState) == active ]]; do sleep 0.1; done
[[ $(known) == '"session_topic":"crash"' ]]

# An upgrade restarts the server and keeps the configuration, the tokens and the state.
pid=$(show MainPID)
cp /etc/kubeagents/kubeagents.env env-before
dpkg -i ./*.deb
[[ $(show ActiveState) == active && $(show MainPID) != "$pid" ]]
cmp /etc/kubeagents/kubeagents.env env-before
report upgrade
[[ $(known) == '"session_topic":"crash""session_topic":"upgrade"' ]]

# An upgrade takes over the data of each format of the journal. What it holds is older than a server keeps it by default.
echo SESSION_RETENTION=87600h >>/etc/kubeagents/kubeagents.env
for format in formats/*; do
    systemctl stop kubeagents
    mv /var/lib/private/kubeagents/data newest
    cp -r "$format/data" /var/lib/private/kubeagents/data
    chown -R --reference=newest /var/lib/private/kubeagents/data
    dpkg -i ./*.deb
    systemctl start kubeagents
    [[ $(show ActiveState) == active ]]
    curl -fsS -H "$header" https://hub.example:8080/api/sessions | grep -q '"session_topic":"topic '
    systemctl stop kubeagents
    rm -r /var/lib/private/kubeagents/data
    mv newest /var/lib/private/kubeagents/data
done
sed -i '$d' /etc/kubeagents/kubeagents.env
systemctl start kubeagents
[[ $(known) == '"session_topic":"crash""session_topic":"upgrade"' ]]

# A setting that can't work is not tried again and again.
echo HOST=203.0.113.1 >>/etc/kubeagents/kubeagents.env
! systemctl restart kubeagents
[[ $(show ExecMainStatus) == 2 && $(show NRestarts) == 0 && $(show ActiveState) == failed ]]
sed -i '$d' /etc/kubeagents/kubeagents.env
systemctl restart kubeagents

# Removing the package stops the server. What is left is the configuration, and after a purge only the state.
dpkg -r kubeagents
! pgrep -x kubeagents
[[ -s /etc/kubeagents/tokens ]]
rm -r /etc/systemd/system/kubeagents.service.d /etc/kubeagents/tls.* /etc/kubeagents/rules.yaml
dpkg --purge kubeagents
traces >traces-after
diff traces-before traces-after >traces || true
[[ $(grep -v '/var/lib' traces | grep '^>' || true) == '' ]] || { cat traces; exit 1; }
[[ -d /var/lib/private/kubeagents/data ]]
echo 'The package works.'
