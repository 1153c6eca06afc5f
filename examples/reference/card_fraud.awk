# What the example card_fraud must find, by other means. A card's payments are in one file.
FNR == 1 { next }
{
    # The country is the last field, and may be quoted with commas inside.
    rest = $0
    n = index(rest, ","); time = substr(rest, 1, n - 1) + 0; rest = substr(rest, n + 1)
    n = index(rest, ","); card = substr(rest, 1, n - 1); rest = substr(rest, n + 1)
    n = index(rest, ","); cents = substr(rest, 1, n - 1) + 0; country = substr(rest, n + 1)

    if (card in last_time && last_cents[card] < 100 && time - last_time[card] <= 60000 && cents >= 50000)
        printf "%.0f,%s,probe\n", time, card
    last_time[card] = time
    last_cents[card] = cents

    travelled = 0
    for (pair in seen) {
        split(pair, parts, SUBSEP)
        if (parts[1] == card && parts[2] != country && time - seen[pair] <= 3600000) travelled = 1
    }
    if (travelled) printf "%.0f,%s,travel\n", time, card
    seen[card, country] = time
}
