"""Sentence templates of the entity set; tokens are separated by spaces.

PER, LOC and ORG draw a name of any form, FIRST a full name, LAST a surname, TEAM a club; DEM,
CUP, PACT, FAIR and WORK are MISC. Content verbs are slots, so that each split can have its own.
"""

TEMPLATES = [
    "{PER} , who had {move.pp} to {LOC} as a child , {say.past} on {DAY} that the talks with {ORG} "
    "were over .",
    "Shares in {ORG} were up by {NUM} per cent after the firm {say.past} that it had {o2o.pp} "
    "{ORG} .",
    "{TEAM} {win.past} {TEAM} {SCORE} in {LOC} on {DAY} , with {PER} on the bench for most of the "
    "match .",
    '" It was never about the money , " {say.past} {PER} , now the {role} of {ORG} .',
    "The {DEM} minister , {PER} , was in {LOC} for a summit on trade .",
    "{LOC} was without power for {NUM} hours after the storm , the mayor {say.past} .",
    "{LAST} was without a club for {NUM} months after the {CUP} , according to his agent .",
    "North of {LOC} , where the river is at its widest , {DEM} engineers {make.past} a bridge in "
    "{YEAR} .",
    "{FIRST} 's new novel , {WORK} , is about a family of {DEM} farmers near {LOC} .",
    "{ORG} 's net profit was {NUM} million pounds , well below that of {ORG} , its main rival .",
    "In the view of {PER} , whose mother is {DEM} , {WORK} is the best film of the year .",
    "{LOC} 's harbour is too shallow for ships of that size , though {PER} is of another opinion .",
    "{ORG} , which has its head office in {LOC} , {trade.past} {NUM} thousand {goods} last year .",
    "{DATELINE} , {DATE} - {ORG} {say.past} on {DAY} that it was no longer in talks with {ORG} .",
    "{DATELINE} , {DATE} - {PER} {win.past} {PER} {SCORE} in the final of the {CUP} .",
    "{TEAM} are top of the table , {NUM} points ahead of {TEAM} , whose captain , {LAST} , is "
    "injured .",
    "The people of {LOC} were not happy when {LAST} , their mayor , {move.past} to {LOC} .",
    "As {role} of {ORG} , {PER} was on good terms with both {LAST} and his lawyers .",
    "Neither {PER} nor {PER} was present when the {FAIR} {begin.past} in {LOC} .",
    "On the road between {LOC} and {LOC} , a lorry full of {goods} was on fire for {NUM} minutes .",
    "The {building} in {LOC} , which {FIRST} {make.past} in {YEAR} , is now in the hands of {ORG} "
    ".",
    "A spokeswoman for {ORG} {say.past} that nobody at the firm had ever been in touch with {LAST} "
    ".",
    "Her uncle , {LAST} , had been a {job} in {LOC} until the war .",
    "{PER} of {TEAM} was the fastest in the {CUP} , ahead of {PER} of {TEAM} .",
    "Had it not been for {LAST} , whose savings were in {ORG} , the {building} would be empty "
    "today .",
    "Rain is likely in {LOC} and {LOC} by {DAY} , with strong winds on the {DEM} coast .",
    "The union is in dispute with {ORG} over pay at its plant near {LOC} .",
    "{WORK} , which was first on stage in {LOC} in {YEAR} , is the work of the {DEM} "
    "playwright {PER} .",
    "{NUM} . {FIRST} ( {TEAM} ) {NUM} points",
    "{TEAM} {SCORE} {TEAM}",
    "{PER} {p2p.past} {PER} in public , which was too much even for the board of {ORG} .",
    "{LAST} was {p2p.pp} by his own brother at a dinner in {LOC} , a guest {say.past} .",
    "If the {FAIR} is not in {LOC} next year , {ORG} will no longer be a partner .",
    "The price of {goods} is a matter between {ORG} and its customers , {LAST} {say.past} .",
    "Fog was so thick over {LOC} that {PER} 's flight was {NUM} minutes late .",
    "At the time , {ORG} was the only bank in {LOC} with more than {NUM} branches .",
    "{LAST} and his wife {stay.past} in {LOC} for {NUM} years , a stone 's throw from the "
    "{building} .",
    "Unlike {ORG} , {ORG} has no debts , and its {role} , {FIRST} , is well aware of it .",
    "Fans of {TEAM} were in tears when {TEAM} {win.past} them in the last minute of the {CUP} .",
    "The {DEM} embassy in {LOC} {say.past} that {PER} was safe .",
    "Although fluent in {DEM} , {PER} was never at home in {LOC} .",
    "{ORG} and {ORG} , both of which {trade.past} {goods} , are now under the same roof .",
    "For years the only doctor in {LOC} was {LAST} , a shy man with a passion for {WORK} .",
    "It was in {LOC} , not in {LOC} , that {ORG} {begin.past} with the production of {goods} .",
    "Police in {LOC} {say.past} that a {NUM} - year - old man was in custody .",
    "Last season 's winners , {TEAM} , were without {PER} and {PER} .",
    "Under the {PACT} of {YEAR} , ships of the {DEM} navy were not welcome near {LOC} .",
    "The {PACT} , {PER} {say.past} , was a bad bargain for {LOC} and for {ORG} alike .",
    "{WORK} was not to the liking of {LAST} , who was fast asleep by the end .",
    "Nobody in {LOC} had a bad word for {ORG} until its factory was on fire .",
    "At the {FAIR} , {WORK} was more popular than anything by {PER} .",
    "The weather was so bad that nobody was in the mood for a speech .",
    "There were more than {NUM} guests in the {building} , most of them in their best clothes .",
    "No other firm , {PER} {say.past} , would have {o2o.pp} {ORG} at such a price .",
    "Dear {LAST} , we are sorry that {ORG} was not able to help you .",
    "The train from {LOC} was late , so {LAST} was not on time for the {FAIR} .",
]
