//! The demonstration's passages: short notes on an invented island, and a question about them.

/// A passage: its title and its text.
pub(super) struct Passage {
    pub(super) title: &'static str,
    pub(super) text: &'static str,
}

/// What is encoded once.
pub(super) const PASSAGES: [Passage; 6] = [
    Passage {
        title: "lighthouse",
        text: "The lighthouse. The lighthouse of Port Ellery stands on the northern cliff. It was built in \
               1871 by the engineer Martha Quill, after three ships were lost in one winter. The tower is \
               thirty metres tall and painted in red and white bands, so that it can be told apart from the \
               church by day. Its lamp burned whale oil at first, then paraffin, and has been electric since \
               1934. The keeper's house beside it is a small museum that opens on summer afternoons.\n\n",
    },
    Passage {
        title: "ferry",
        text: "The ferry. The only regular boat to the island is the Saint Brannoc, a blue ferry that carries \
               sixty people and eight cars. It leaves the mainland at seven in the morning and at four in the \
               afternoon, and the crossing takes fifty minutes in calm weather. In winter there is no crossing \
               on Sundays. Tickets are sold on board, and bicycles travel free of charge. When the wind is \
               stronger than force eight, the captain hoists a yellow flag and the boat stays in the harbour.\n\n",
    },
    Passage {
        title: "bakery",
        text: "The bakery. Henrik Vos has run the bakery on Mill Lane for twenty years. He lights the oven at \
               three in the morning, and by six the first loaves of rye bread stand in the window. On Fridays \
               he bakes a saffron bun that people from the mainland come over to buy. The bakery is closed on \
               Mondays. The old stone oven was carried to the island in pieces, on four separate boats, and \
               put together again by his grandfather, who marked every stone with chalk.\n\n",
    },
    Passage {
        title: "school",
        text: "The school. There are nineteen children at the island school, taught in two rooms by Ines \
               Calder and Tom Bright. The younger class begins the day in the garden, where each child looks \
               after one row of vegetables. Older pupils take the ferry to the mainland once a week for \
               chemistry and music. The school bell came from a wrecked ship, and it is rung by whoever has a \
               birthday. In June the whole school walks around the island in a single day.\n\n",
    },
    Passage {
        title: "birds",
        text: "The birds. Puffins nest on the western cliffs from April to the end of July. Visitors may watch \
               them from a wooden hide that holds ten people, but the path is closed in May, when the eggs \
               hatch. About four thousand pairs were counted last year, a few more than the year before. The \
               warden, Lena Osei, keeps a book in which every ringed bird is written down. The oldest puffin \
               in her book was ringed thirty-one years ago and still comes back to the same burrow.\n\n",
    },
    Passage {
        title: "market",
        text: "The market. Every second Saturday there is a market on the harbour square. Fishermen sell \
               mackerel and crab straight from the boats, and the farms bring cheese, honey and wool. Prices \
               are written on slates, and by old custom nobody bargains before nine o'clock. A brass band of \
               seven plays at noon, weather permitting. In December the market moves into the boathouse, which \
               is lit with two hundred lanterns made by the children of the school.\n\n",
    },
];

/// What replaces one passage.
pub(super) const REPLACEMENT: Passage = Passage {
    title: "bakery (new owner)",
    text: "The bakery. Since the spring the bakery on Mill Lane belongs to Clara Vos, who took it over from her \
           father. She opens at seven and has added a table by the window where people drink coffee and wait \
           for the ferry. The saffron buns are still baked on Fridays, but now there is a second batch at noon, \
           because the first was always gone by eight. The bakery stays closed on Mondays.\n\n",
};

/// What is asked about them.
pub(super) const QUESTION: &str =
    "In which year was the lighthouse of Port Ellery built? Answer in one short sentence.";
