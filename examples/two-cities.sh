# Starts Liuzhou (450200, system window) and Foshan (440600, system approval) in a folder of their own, for the examples; to be
# sourced. Sets liuzhou and foshan to their addresses and leaves the shell in the folder, which goes with the shell.

work=$(mktemp -d)
pids=()
end() {
    kill "${pids[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap end EXIT
# Two ports that nobody has, both free at the same moment.
read -r liuzhou foshan < <(python3 -c '
import socket
free = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*("127.0.0.1:%d" % one.getsockname()[1] for one in free))')
cd "$work"
{
    "$tongban" pki new
    "$tongban" pki add-city 450200 --name-zh 柳州 --name-en Liuzhou --endpoint "$liuzhou" --system window
    "$tongban" pki add-city 440600 --name-zh 佛山 --name-en Foshan --endpoint "$foshan" --system approval
    "$tongban" init --pki certs/dev/450200 --data run/450200
    "$tongban" init --pki certs/dev/440600 --data run/440600
} >setup.log 2>&1 || { cat setup.log; exit 1; }
for city in 450200 440600; do
    "$tongban" serve --config "run/$city/tongban.toml" 2>"$city.log" &
    pids+=($!)
done
